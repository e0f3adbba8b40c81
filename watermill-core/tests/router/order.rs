//! Order and concurrency: scopes, key lanes, limits, outputs on their way.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Barrier, Notify, Semaphore},
    time::sleep,
};
use watermill_core::{
    DeliveryInfo, Handler, Message, Publisher, State,
    delivery::Outcome,
    error::{PublishError, PublishErrorKind},
    publisher::PublisherCapabilities,
};
use watermill_testkit::{RecordingPublisher, ScriptedDelivery, ScriptedSubscriber};

use crate::{Running, ids, message, router};

type Log = Arc<Mutex<Vec<String>>>;

async fn pass(message: Message) -> Message {
    message
}

#[tokio::test]
async fn within_a_scope_one_message_runs_at_a_time_and_scopes_run_in_parallel() {
    async fn meet(State(barrier): State<Arc<Barrier>>) {
        barrier.wait().await;
    }
    let source = ScriptedSubscriber::new();
    for round in 0..4 {
        for scope in 0..3 {
            source.push(ScriptedDelivery::new(message(format!("{scope}/{round}"))).scope(scope));
        }
    }
    // Only when all three scopes have a message in hand can any go on.
    let running = Running::start(
        router()
            .with_state(Arc::new(Barrier::new(3)))
            .add(Handler::new("meet", meet).from(source.clone(), "in")),
    )
    .await;
    source.settled(12).await;
    assert_eq!(source.outstanding_max(), 3, "one in each of the three scopes");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn no_more_scopes_run_than_asked_for() {
    async fn wait(State(permits): State<Arc<Semaphore>>) {
        permits.acquire().await.unwrap().forget();
    }
    let (source, permits) = (ScriptedSubscriber::new(), Arc::new(Semaphore::new(0)));
    for scope in 0..10 {
        source.push(ScriptedDelivery::new(message(scope)).scope(scope));
    }
    let handler = Handler::new("wait", wait).from(source.clone(), "in").scopes(4);
    let running = Running::start(router().with_state(permits.clone()).add(handler)).await;
    source.await_handed_out(4).await;
    permits.add_permits(10);
    source.settled(10).await;
    assert_eq!(source.outstanding_max(), 4);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn concurrency_is_a_limit() {
    // P31: Go runs 5,000 handlers at once for 5,000 messages.
    static RUNNING: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    async fn work() {
        MOST.fetch_max(RUNNING.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        RUNNING.fetch_sub(1, Ordering::SeqCst);
    }
    let source = ScriptedSubscriber::new();
    for n in 0..5_000 {
        source.push(message(n));
    }
    let running =
        Running::start(router().add(Handler::new("work", work).from(source.clone(), "in").concurrency(8)))
            .await;
    source.settled(5_000).await;
    assert_eq!(MOST.load(Ordering::SeqCst), 8);
    assert!(source.outstanding_max() <= 8);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_lanes_keep_the_order_of_every_key_and_run_keys_in_parallel() {
    type Seen = Arc<Mutex<HashMap<String, Vec<u32>>>>;
    async fn record(State(seen): State<Seen>, message: Message) {
        for _ in 0..fastrand::usize(0..4) {
            tokio::task::yield_now().await;
        }
        let key = String::from_utf8(message.key().unwrap().to_vec()).unwrap();
        seen.lock().unwrap().entry(key).or_default().push(message.decode_json().unwrap());
    }
    let (source, seen) = (ScriptedSubscriber::new(), Arc::default());
    for n in 0..1_000_u32 {
        source.push(Message::json(&n).unwrap().with_key(format!("key-{}", n % 37)));
    }
    let handler = Handler::new("record", record).from(source.clone(), "in").ordered_by_key(8);
    let running = Running::start(router().with_state(Arc::clone(&seen)).add(handler)).await;
    source.settled(1_000).await;
    running.stop().await.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.values().map(Vec::len).sum::<usize>(), 1_000);
    for (key, numbers) in &*seen {
        assert!(numbers.is_sorted(), "{key}: {numbers:?}");
    }
    let most = source.outstanding_max();
    assert!(most > 8, "busy keys are looked past");
    assert!(most <= 16, "by no more than one message a lane in all: {most}");
}

#[tokio::test]
async fn a_busy_key_does_not_hold_up_the_others() {
    async fn wait_for_key_a(State(go): State<Arc<Notify>>, message: Message) {
        if message.key().is_some_and(|key| key == "a") {
            go.notified().await;
        }
    }
    let (source, go) = (ScriptedSubscriber::new(), Arc::new(Notify::new()));
    source.push(message("a1").with_key("a"));
    for n in 0..5 {
        source.push(message(format!("b{n}")).with_key("b"));
    }
    let handler = Handler::new("wait", wait_for_key_a).from(source.clone(), "in").ordered_by_key(64);
    let running = Running::start(router().with_state(go.clone()).add(handler)).await;
    let settled = source.settled(5).await;
    assert!(settled.iter().all(|(id, _)| id.starts_with('b')), "{settled:?}");
    go.notify_one();
    source.settled(6).await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn after_a_nack_the_same_message_is_handled_before_any_later_one() {
    async fn fail_first_try(
        State(log): State<Log>,
        info: DeliveryInfo,
        message: Message,
    ) -> Result<(), &'static str> {
        log.lock().unwrap().push(format!("{}#{}", message.id(), info.attempt()));
        if &**message.id() == "1" && info.attempt() == 1 { Err("not yet") } else { Ok(()) }
    }
    tokio::time::pause();
    for keyed in [false, true] {
        let (source, log) = (ScriptedSubscriber::new().redeliver(true), Log::default());
        for n in 0..4 {
            source.push(message(n).with_key("k"));
        }
        let handler = Handler::new("fail", fail_first_try).from(source.clone(), "in");
        let handler = if keyed { handler.ordered_by_key(4) } else { handler };
        let running = Running::start(router().with_state(log.clone()).add(handler)).await;
        while source.outcomes().iter().filter(|(_, outcome)| *outcome == Outcome::Ack).count() < 4 {
            sleep(Duration::from_millis(1)).await;
        }
        running.stop().await.unwrap();
        let handled: Vec<String> = log.lock().unwrap().clone();
        let firsts = ["0#1", "1#1", "1#2"];
        assert_eq!(handled[..3], firsts, "keyed: {keyed}");
        let rest: Vec<_> = handled[3..].iter().map(|line| line[..1].to_owned()).collect();
        assert_eq!(rest, ["2", "3"], "keyed: {keyed}: {handled:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn outputs_on_their_way_do_not_hold_up_the_next_message_where_the_publisher_keeps_order() {
    let source = ScriptedSubscriber::new();
    let target = RecordingPublisher::new().keeps_order(true).with_latency(Duration::from_millis(2));
    for n in 0..500 {
        source.push(message(n));
    }
    let started = tokio::time::Instant::now();
    let running =
        Running::start(router().add(
            Handler::new("pass", pass).from(source.clone(), "in").to(target.clone(), "out").pipeline(100),
        ))
        .await;
    let settled = source.settled(500).await;
    // 500 one at a time would take 1,000 ms of the paused clock.
    assert!(started.elapsed() < Duration::from_millis(20), "{:?}", started.elapsed());
    assert!(target.in_flight_max() <= 101, "bounded: {}", target.in_flight_max());
    let order: Vec<String> = (0..500).map(|n| n.to_string()).collect();
    assert_eq!(ids(&target.published("out")), order);
    assert_eq!(
        settled.iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>(),
        order,
        "acks follow in order"
    );
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn where_the_publisher_keeps_no_order_outputs_go_out_one_after_another() {
    let source = ScriptedSubscriber::new();
    let target = RecordingPublisher::new().keeps_order(false).with_latency(Duration::from_millis(2));
    for n in 0..20 {
        source.push(message(n));
    }
    let running = Running::start(
        router().add(Handler::new("pass", pass).from(source.clone(), "in").to(target.clone(), "out")),
    )
    .await;
    source.settled(20).await;
    assert_eq!(target.in_flight_max(), 1);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_publish_that_fails_gives_back_its_message_and_those_behind_it_in_order() {
    let source = ScriptedSubscriber::new();
    let target = RecordingPublisher::new().keeps_order(true).with_latency(Duration::from_millis(2));
    for n in 0..5 {
        source.push(message(n));
    }
    target.fail_next(1, PublishErrorKind::Unavailable);
    let running = Running::start(
        router().add(Handler::new("pass", pass).from(source.clone(), "in").to(target.clone(), "out")),
    )
    .await;
    let settled = source.settled(5).await;
    let order: Vec<_> = settled.iter().map(|(id, _)| id.to_string()).collect();
    assert_eq!(order, ["0", "1", "2", "3", "4"]);
    assert!(matches!(settled[0].1, Outcome::Nack { delay } if !delay.is_zero()), "{settled:?}");
    assert!(settled[1..].iter().all(|(_, outcome)| matches!(outcome, Outcome::Nack { .. })), "{settled:?}");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn the_window_asked_for_follows_the_concurrency() {
    async fn nothing() {}
    for (lanes, expected) in [(1, 1), (16, 16)] {
        let source = ScriptedSubscriber::new();
        let handler = Handler::new("nothing", nothing).from(source.clone(), "in").concurrency(lanes);
        let running = Running::start(router().add(handler)).await;
        source.push(message(1));
        source.settled(1).await;
        assert_eq!(source.windows().last().map(|window| window.per_scope()), Some(expected));
        running.stop().await.unwrap();
    }
}

/// Accepts the first call when it is told to, and refuses all later ones at once.
#[derive(Default)]
struct FirstOnly {
    calls: AtomicUsize,
    accept: Notify,
}

#[async_trait::async_trait]
impl Publisher for FirstOnly {
    async fn publish(&self, topic: &str, _: Vec<Message>) -> Result<(), PublishError> {
        if self.calls.fetch_add(1, Ordering::SeqCst) > 0 {
            return Err(PublishError::new(PublishErrorKind::Unavailable, topic));
        }
        self.accept.notified().await;
        Ok(())
    }

    async fn close(&self) -> Result<(), PublishError> {
        Ok(())
    }

    fn capabilities(&self) -> PublisherCapabilities {
        PublisherCapabilities::new("first-only").keeps_order(true)
    }
}

#[tokio::test(start_paused = true)]
async fn outputs_refused_at_once_leave_those_before_them_alone() {
    let (source, target) = (ScriptedSubscriber::new(), Arc::new(FirstOnly::default()));
    for n in 0..3 {
        source.push(message(n));
    }
    let handler = Handler::new("pass", pass).from(source.clone(), "in").to(target.clone(), "out");
    let running = Running::start(router().add(handler)).await;
    while target.calls.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(source.outcomes(), [], "the second waits for its turn to fail");
    target.accept.notify_one();
    let settled = source.settled(2).await;
    assert_eq!(settled[0], ("0".into(), Outcome::Ack));
    assert!(matches!(&settled[1], (id, Outcome::Nack { .. }) if &**id == "1"), "{settled:?}");
    running.stop().await.unwrap();
}
