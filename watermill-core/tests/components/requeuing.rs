//! The requeuer: Go's component test, and what it does beyond.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;
use watermill_core::{
    FailurePolicy, Handler, MemoryBroker, Message, Publisher as _, PublisherExt as _, Router, State,
    components::Requeuer, delivery::Outcome, error::PublishErrorKind,
};
use watermill_testkit::{RecordingPublisher, ScriptedSubscriber};

use crate::{Running, message};

type Seen = Arc<Mutex<BTreeMap<String, u32>>>;

#[tokio::test(start_paused = true)]
async fn what_is_poisoned_goes_round_until_all_ten_have_been_handled() {
    /// Fails on each message twice.
    async fn third_time(State(seen): State<Seen>, message: Message) -> Result<(), &'static str> {
        let mut seen = seen.lock();
        let times = seen.entry(message.id().to_string()).or_default();
        *times += 1;
        if *times < 3 { Err("not yet") } else { Ok(()) }
    }
    let (broker, seen) = (MemoryBroker::new(), Seen::default());
    let policy = FailurePolicy::nack().then_dead_letter(broker.publisher(), "failed");
    let requeuer = Requeuer::new(broker.subscriber().group("requeuer"), "failed", broker.publisher())
        .delay(Duration::ZERO)
        .max_retries(5, "dead");
    let router = Router::new()
        .with_state(seen.clone())
        .add(
            Handler::new("third_time", third_time)
                .from(broker.subscriber().group("h"), "work")
                .on_failure(policy),
        )
        .merge(requeuer.handlers().unwrap());
    let control = router.control();
    let task = tokio::spawn(router.run());
    control.reached(watermill_core::router::Phase::Running).await;
    let messages = (0..10).map(message).collect();
    broker.publisher().publish("work", messages).await.unwrap();
    while control.handler("third_time").unwrap().counts.acked < 10 {
        tokio::task::yield_now().await;
    }
    control.stop();
    let report = task.await.unwrap().unwrap();
    assert!(seen.lock().values().all(|times| *times == 3), "{seen:?}");
    assert_eq!(report.handler("requeuer").unwrap().counts.acked, 20);
}

/// Sends one letter through a requeuer.
async fn requeued(
    requeuer: impl FnOnce(ScriptedSubscriber, RecordingPublisher) -> Requeuer,
    letter: Message,
) -> (String, Message) {
    let (source, out) = (ScriptedSubscriber::new(), RecordingPublisher::new());
    source.push(letter);
    let handlers = requeuer(source, out.clone()).handlers().unwrap();
    let running = Running::start(Router::new().merge(handlers)).await;
    let published = out.await_published(1).await.remove(0);
    running.stop().await;
    published
}

#[tokio::test(start_paused = true)]
async fn a_message_is_counted_and_given_up_when_it_has_been_sent_back_often_enough() {
    let letter =
        || message("a").with_metadata("topic_poisoned", "orders").with_metadata("reason_poisoned", "boom");
    let to = |source, out| Requeuer::new(source, "failed", out).max_retries(3, "dead");
    for (retries, topic, counted) in [
        (None, "orders", "1"),
        (Some("2"), "orders", "3"),
        (Some("3"), "dead", "3"),
        (Some("99"), "dead", "99"),
        (Some("many"), "orders", "1"),
    ] {
        let letter = match retries {
            Some(retries) => letter().with_metadata("_watermill_requeuer_retries", retries),
            None => letter(),
        };
        let (to_topic, message) = requeued(to, letter).await;
        assert_eq!(to_topic, topic, "after {retries:?}");
        assert_eq!(message.metadata().get("_watermill_requeuer_retries"), Some(counted));
        assert_eq!(message.metadata().get("reason_poisoned"), Some("boom"), "its story stays");
    }
}

#[tokio::test(start_paused = true)]
async fn unless_told_otherwise_a_letter_waits_ten_seconds_and_is_given_up_after_ten_times() {
    let letter = |retries: &str| {
        message("a")
            .with_metadata("topic_poisoned", "orders")
            .with_metadata("_watermill_requeuer_retries", retries)
    };
    let to = |source, out| Requeuer::new(source, "failed", out);
    assert_eq!(requeued(to, letter("9")).await.0, "orders");
    assert_eq!(requeued(to, letter("10")).await.0, "failed.given_up");
    assert_eq!(requeued(to, message("b")).await.0, "failed.given_up", "nobody knows where it belongs");
    let endless = |source, out| Requeuer::new(source, "failed", out).without_end();
    assert_eq!(requeued(endless, letter("10")).await.0, "orders");

    let (broker, out) = (MemoryBroker::new(), RecordingPublisher::new());
    let requeuer = Requeuer::new(broker.subscriber().group("requeuer"), "failed", out.clone());
    let running = Running::start(Router::new().merge(requeuer.handlers().unwrap())).await;
    let began = Instant::now();
    broker.publisher().publish_one("failed", letter("0")).await.unwrap();
    out.await_published(1).await;
    let waited = began.elapsed().as_secs();
    assert!((9..=11).contains(&waited), "{waited} s");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_target_is_a_function_and_what_has_none_is_given_up() {
    let by_tenant = |source, out| {
        Requeuer::new(source, "failed", out)
            .target(|letter| letter.metadata().get("tenant").map(|tenant| format!("orders.{tenant}")))
            .max_retries(3, "dead")
    };
    assert_eq!(requeued(by_tenant, message("a").with_metadata("tenant", "acme")).await.0, "orders.acme");
    assert_eq!(requeued(by_tenant, message("a")).await.0, "dead");
}

#[tokio::test(start_paused = true)]
async fn what_has_nowhere_to_go_is_not_lost() {
    for (keeps_rejected, expect_rejected) in [(true, true), (false, false)] {
        let (source, out) =
            (ScriptedSubscriber::new().dead_letters(keeps_rejected), RecordingPublisher::new());
        source.push(message("a"));
        let requeuer = Requeuer::new(source.clone(), "failed", out.clone()).without_end();
        let handlers = requeuer.handlers().unwrap();
        let running = Running::start(Router::new().merge(handlers)).await;
        let outcome = source.settled(1).await.remove(0).1;
        assert_eq!(matches!(outcome, Outcome::Reject { .. }), expect_rejected, "{outcome:?}");
        assert_eq!(matches!(outcome, Outcome::Nack { delay } if !delay.is_zero()), !expect_rejected);
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_away_is_waited_for_and_nothing_is_given_up() {
    let (source, out) =
        (ScriptedSubscriber::new().redeliver(true).dead_letters(true), RecordingPublisher::new());
    out.fail_next(5, PublishErrorKind::Unavailable);
    source.push(message("a").with_metadata("topic_poisoned", "orders"));
    let handlers =
        Requeuer::new(source.clone(), "failed", out.clone()).max_retries(1, "dead").handlers().unwrap();
    let running = Running::start(Router::new().merge(handlers)).await;
    assert_eq!(out.await_published(1).await[0].0, "orders");
    assert_eq!(source.outcomes().len(), 6, "five nacks and an ack");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_waits_holds_up_no_other() {
    let (broker, out) = (MemoryBroker::new(), RecordingPublisher::new());
    let requeuer = Requeuer::new(broker.subscriber().group("requeuer"), "failed", out.clone())
        .delay(Duration::from_secs(30));
    let running = Running::start(Router::new().merge(requeuer.handlers().unwrap())).await;
    let letter = |id: &str| message(id).with_metadata("topic_poisoned", "orders");
    let began = Instant::now();
    broker.publisher().publish_one("failed", letter("slow").delayed_metadata(3_600)).await.unwrap();
    broker.publisher().publish("failed", (0..50).map(|n| letter(&n.to_string())).collect()).await.unwrap();
    out.await_published(50).await;
    let waited = began.elapsed().as_secs();
    assert!((29..=31).contains(&waited), "all fifty wait side by side, and not for the slow one: {waited} s");
    out.await_published(51).await;
    assert!(began.elapsed().as_secs() >= 3_598);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_time_that_is_left_of_an_earlier_wait_does_not_shorten_the_delay() {
    let (broker, out) = (MemoryBroker::new(), RecordingPublisher::new());
    let requeuer = Requeuer::new(broker.subscriber().group("requeuer"), "failed", out.clone())
        .delay(Duration::from_secs(30));
    let running = Running::start(Router::new().merge(requeuer.handlers().unwrap())).await;
    let letter = message("a")
        .with_metadata("topic_poisoned", "orders")
        .with_metadata("_watermill_delayed_until", "2001-01-01T00:00:00Z");
    let began = Instant::now();
    broker.publisher().publish_one("failed", letter).await.unwrap();
    out.await_published(1).await;
    assert!(began.elapsed().as_secs() >= 29, "{:?}", began.elapsed());
    running.stop().await;
}

trait DelayedMetadata {
    fn delayed_metadata(self, seconds: u64) -> Self;
}

impl DelayedMetadata for Message {
    /// The metadata of a delay, as a letter has them, without asking the publisher for one.
    fn delayed_metadata(self, seconds: u64) -> Self {
        let asked = Message::new("").delay_for(Duration::from_secs(seconds));
        let until = asked.metadata().get("_watermill_delayed_until").unwrap();
        self.with_metadata("_watermill_delayed_until", until)
    }
}

#[test]
fn what_cannot_work_is_refused_with_every_problem() {
    let broker = MemoryBroker::new();
    let requeuer = || Requeuer::new(broker.subscriber(), "failed", broker.publisher());
    for (wrong, problems) in [
        (Requeuer::new(broker.subscriber(), "", broker.publisher()).waiting(0), 2),
        (requeuer().max_retries(1, ""), 1),
        (requeuer().max_retries(1, "failed"), 1),
        (requeuer().delay(Duration::from_secs(9)).longest_delay(Duration::from_secs(1)), 1),
        (requeuer().longest_delay(Duration::from_secs(1)), 1),
    ] {
        assert_eq!(wrong.handlers::<()>().unwrap_err().problems().count(), problems);
    }
}
