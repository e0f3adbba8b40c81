//! What a worker does about deliveries that its subscription loses: nothing more.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::Semaphore;
use watermill_core::{Backoff, FailurePolicy, Handler, Message, State};
use watermill_testkit::{RecordingPublisher, ScriptedSubscriber};

use crate::{Running, message, router};

/// Remembers what it handles, and waits for a permit.
#[derive(Clone)]
struct Held {
    handled: Arc<Mutex<Vec<String>>>,
    permits: Arc<Semaphore>,
}

impl Held {
    fn new() -> Self {
        Self { handled: Arc::default(), permits: Arc::new(Semaphore::new(0)) }
    }

    fn handled(&self) -> Vec<String> {
        self.handled.lock().unwrap().clone()
    }

    async fn has_handled(&self, count: usize) {
        while self.handled().len() < count {
            tokio::task::yield_now().await;
        }
    }
}

async fn hold(State(held): State<Held>, message: Message) -> Message {
    held.handled.lock().unwrap().push(message.id().to_string());
    held.permits.acquire().await.unwrap().forget();
    message
}

#[tokio::test]
async fn nothing_of_a_lost_scope_is_begun_or_published() {
    for keyed in [false, true] {
        let (source, target, held) = (ScriptedSubscriber::new(), RecordingPublisher::new(), Held::new());
        for n in 1..=3 {
            source.push(message(n).with_key("k"));
        }
        let handler = Handler::new("hold", hold).from(source.clone(), "in").to(target.clone(), "out");
        let handler = if keyed { handler.ordered_by_key(4) } else { handler };
        let running = Running::start(router().with_state(held.clone()).add(handler)).await;
        held.has_handled(1).await;
        if keyed {
            source.await_handed_out(3).await;
        }
        let out = source.handed_out();
        source.revoke(0);
        // What was not handed out yet belongs to another owner now, and is not this subscription's to read.
        running.control.stop();
        held.permits.add_permits(10);
        let report = running.stop().await.unwrap();
        assert_eq!(held.handled(), ["1"], "keyed: {keyed}");
        assert_eq!(target.all_published(), [], "keyed: {keyed}");
        let counts = report.handler("hold").unwrap().counts;
        assert_eq!((counts.lost, counts.acked, counts.nacked), (out as u64, 0, 0), "keyed: {keyed}");
        assert!(counts.to_string().contains("lost"), "{counts}");
    }
}

#[tokio::test]
async fn what_waits_for_a_busy_key_is_not_begun_when_it_is_lost() {
    let (source, target, held) = (ScriptedSubscriber::new(), RecordingPublisher::new(), Held::new());
    for n in 1..=3 {
        source.push(message(n).with_key("k"));
    }
    let handler =
        Handler::new("hold", hold).from(source.clone(), "in").to(target.clone(), "out").ordered_by_key(4);
    let running = Running::start(router().with_state(held.clone()).add(handler)).await;
    held.has_handled(1).await;
    source.await_handed_out(3).await;
    source.revoke(0);
    held.permits.add_permits(10);
    while running.control.handlers()[0].counts.lost < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(held.handled(), ["1"], "and the router still runs");
    assert_eq!(target.all_published(), []);

    source.push(message(4).with_key("k"));
    source.settled(1).await;
    assert_eq!(held.handled(), ["1", "4"], "what comes afterwards is handled");
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lost_delivery_that_waits_for_its_retry_goes_at_once() {
    async fn fail(State(tries): State<Arc<AtomicUsize>>) -> Result<(), &'static str> {
        tries.fetch_add(1, Ordering::SeqCst);
        Err("always")
    }
    let hour = Backoff::constant(Duration::from_secs(3600));
    let (source, tries) = (ScriptedSubscriber::new(), Arc::new(AtomicUsize::new(0)));
    source.push(message(1));
    let handler = Handler::new("fail", fail)
        .from(source.clone(), "in")
        .on_failure(FailurePolicy::retry(5).backoff(hour));
    let running = Running::start(router().with_state(tries.clone()).add(handler)).await;
    while tries.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let started = tokio::time::Instant::now();
    source.revoke(0);
    while running.control.handlers()[0].counts.lost == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(started.elapsed(), Duration::ZERO, "nobody waits for what is lost");
    assert_eq!(tries.load(Ordering::SeqCst), 1);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_batch_runs_without_what_was_lost_before_it_began() {
    async fn store(messages: Vec<Message>, State(held): State<Held>) -> Vec<Result<Message, String>> {
        let mut handled = held.handled.lock().unwrap();
        handled.extend(messages.iter().map(|message| message.id().to_string()));
        messages.into_iter().map(Ok).collect()
    }
    let (source, target, held) = (ScriptedSubscriber::new(), RecordingPublisher::new(), Held::new());
    source.push(message(1));
    source.push(message(2));
    let handler = Handler::batch("store", 10, Duration::from_secs(1), store)
        .from(source.clone(), "in")
        .to(target.clone(), "out");
    let running = Running::start(router().with_state(held.clone()).add(handler)).await;
    source.await_handed_out(2).await;
    source.revoke(0);
    source.push(message(3));
    source.settled(1).await;
    assert_eq!(held.handled(), ["3"]);
    assert_eq!(target.published("out").len(), 1);
    let report = running.stop().await.unwrap();
    assert_eq!(report.handler("store").unwrap().counts.lost, 2);
}

#[tokio::test]
async fn what_is_lost_while_a_batch_runs_is_not_published() {
    async fn slow(messages: Vec<Message>, State(held): State<Held>) -> Vec<Result<Message, String>> {
        held.handled.lock().unwrap().push("a batch".to_owned());
        held.permits.acquire().await.unwrap().forget();
        messages.into_iter().map(Ok).collect()
    }
    let (source, target, held) = (ScriptedSubscriber::new(), RecordingPublisher::new(), Held::new());
    source.push(message(1));
    source.push(message(2));
    let handler = Handler::batch("slow", 2, Duration::from_secs(60), slow)
        .from(source.clone(), "in")
        .to(target.clone(), "out");
    let running = Running::start(router().with_state(held.clone()).add(handler)).await;
    held.has_handled(1).await;
    source.revoke(0);
    held.permits.add_permits(1);
    let report = running.stop().await.unwrap();
    assert_eq!(target.all_published(), []);
    assert_eq!(report.handler("slow").unwrap().counts.lost, 2);
}
