//! Messages that are due later.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use watermill_core::{
    FailurePolicy, Handler, MemoryBroker, RetryTopics, Router, components::DelayRelay, delay::DelayPublisher,
    router::Phase,
};

use super::*;
use crate::server::insert;

/// One that looks when it begins, when something is published, and when something is due.
fn sleeper() -> SqlQueueSubscriberConfig {
    SqlQueueSubscriberConfig::default().poll_interval_min(NEVER).poll_interval_max(NEVER)
}

pub(crate) async fn a_delayed_message_comes_when_it_is_due_and_not_before<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    assert!(publisher::<S>(&pool).capabilities().delays);
    let due = SystemTime::now() + Duration::from_millis(700);
    let late = Message::new("1").delay_until(due);
    let later = Message::new("2").delay_for(Duration::from_millis(900));
    publisher::<S>(&pool).publish("t", vec![later, late, Message::new("0")]).await.unwrap();
    let mut subscription = worker_with::<S>(&pool, sleeper()).subscribe("t").await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let delivery = next(&mut subscription).await;
        assert_eq!(delivery.info().attempt(), 1);
        if let Some(due) = delivery.delayed_until().unwrap() {
            assert!(SystemTime::now() >= due, "{} came before it was due", payload(&delivery));
        }
        seen.push(payload(&delivery).to_owned());
        delivery.ack();
    }
    assert_eq!(seen[0], "0", "it was not delayed");
    seen.sort();
    assert_eq!(seen, ["0", "1", "2"]);
}

/// As Go writes it on PostgreSQL, and whoever writes plain SQL.
pub(crate) async fn a_delay_that_only_the_metadata_knows_is_waited_for<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    worker::<S>(&pool).initialize("t").await.unwrap();
    let due_ms = u64::try_from(S::number(&pool, S::SOON_MS).await).unwrap();
    let due = Message::new("").delay_until(UNIX_EPOCH + Duration::from_millis(due_ms));
    let until = due.metadata().get("_watermill_delayed_until").unwrap();
    S::execute(&pool, &insert("t", "1", &format!(r#"{{"_watermill_delayed_until":"{until}"}}"#))).await;
    S::execute(&pool, &insert("t", "2", r#"{"_watermill_delayed_until":"soon"}"#)).await;
    let mut subscription = worker_with::<S>(&pool, sleeper()).subscribe("t").await.unwrap();
    let unreadable = next(&mut subscription).await;
    assert_eq!(payload(&unreadable), "2", "what is no time delays nothing");
    unreadable.ack();
    let delivery = next(&mut subscription).await;
    assert_eq!(delivery.info().attempt(), 1, "looking at it was no attempt");
    assert!(SystemTime::now() >= UNIX_EPOCH + Duration::from_millis(due_ms));
    delivery.ack();
}

pub(crate) async fn a_nacked_message_comes_again_after_its_delay_and_others_pass_it<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    publisher::<S>(&pool).publish("t", numbered(0..2)).await.unwrap();
    let mut subscription = worker_with::<S>(&pool, sleeper()).subscribe("t").await.unwrap();
    let first = next(&mut subscription).await;
    let again = payload(&first).to_owned();
    let nacked = Instant::now();
    first.nack_after(Duration::from_millis(600));
    let other = next(&mut subscription).await;
    assert_ne!(payload(&other), again);
    other.ack();
    let delivery = next(&mut subscription).await;
    assert!(nacked.elapsed() >= Duration::from_millis(600));
    assert_eq!((payload(&delivery), delivery.info().attempt()), (again.as_str(), 2));
    delivery.nack();
    let delivery = next(&mut subscription).await;
    assert_eq!(delivery.info().attempt(), 3);
    delivery.ack();
    subscription.close().await.unwrap();
    assert_eq!(S::number(&pool, "select count(*) from watermill_t").await, 0);
}

pub(crate) async fn a_time_that_no_column_holds_is_refused<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    let publisher = publisher::<S>(&pool);
    let nonsense = Message::new("1").with_metadata("_watermill_delayed_until", "soon");
    let error = publisher.publish_one("t", nonsense).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Message, "{error}");
    // The furthest that Go can delay is another 292 years.
    let far = Message::new("1").delay_for(Duration::MAX);
    match publisher.publish_one("t", far).await {
        Ok(()) => assert_eq!(S::number(&pool, "select count(*) from watermill_t").await, 1),
        Err(error) => assert_eq!(error.kind(), PublishErrorKind::Message, "{error}"),
    }
}

pub(crate) async fn a_queue_keeps_delays_for_another_backend<S: Server>() {
    let server = S::default();
    let (pool, broker) = (server.connect().await, MemoryBroker::new());
    let mut reminders = broker.subscriber().subscribe("reminders").await.unwrap();
    let relay = DelayRelay::new(worker::<S>(&pool), "delayed", broker.publisher());
    let router: Router = Router::new().merge(relay.handlers());
    let control = router.control();
    let running = tokio::spawn(router.run());
    control.reached(Phase::Running).await;

    let publisher = DelayPublisher::new(broker.publisher(), publisher::<S>(&pool), "delayed");
    let due = SystemTime::now() + Duration::from_millis(700);
    let late = Message::new("1").with_key("k").with_metadata("m", "n").delay_until(due);
    publisher.publish("reminders", vec![late.clone(), Message::new("0")]).await.unwrap();
    let first = next(&mut reminders).await;
    assert_eq!(payload(&first), "0", "it was not delayed");
    first.ack();
    let second = next(&mut reminders).await;
    assert!(SystemTime::now() >= due, "it came before it was due");
    assert_eq!(*second.message(), late);
    second.ack();
    control.stop();
    running.await.unwrap().unwrap();
}

pub(crate) async fn retries_wait_in_queues_and_outlive_the_router<S: Server>() {
    let server = S::default();
    let (pool, broker) = (server.connect().await, MemoryBroker::new());
    let mut dead = worker::<S>(&pool).subscribe("failed").await.unwrap();
    let retries = || {
        let (queue, queued) = (publisher::<S>(&pool), worker::<S>(&pool));
        RetryTopics::new(queue, queued, "retry")
            .after([Duration::from_millis(300), Duration::from_millis(301)])
            .then_dead_letter(publisher::<S>(&pool), "failed")
            .giving_up_order()
    };
    let start = async || {
        let handler = Handler::new("h", async || Err::<(), _>("always"))
            .from(broker.subscriber().group("g"), "in")
            .on_failure(FailurePolicy::nack().then_retry_topics(retries()));
        let router = Router::new().add(handler);
        let control = router.control();
        let running = tokio::spawn(router.run());
        control.reached(Phase::Running).await;
        (control, running)
    };
    let (control, running) = start().await;
    broker.publisher().publish("in", vec![Message::with_id("a", "1").with_key("k")]).await.unwrap();
    while control.handler("h").unwrap().counts.postponed == 0 {
        tokio::task::yield_now().await;
    }
    control.stop();
    running.await.unwrap().unwrap();

    let (control, running) = start().await;
    let letter = next(&mut dead).await;
    assert_eq!((letter.id().as_str(), letter.key().unwrap().as_ref()), ("a", b"k".as_ref()));
    let attempts: u32 = letter.metadata().get("attempts_poisoned").unwrap().parse().unwrap();
    assert!(attempts >= 3, "one from each topic: {attempts}");
    assert_eq!(letter.metadata().get("topic_poisoned"), Some("in"));
    letter.ack();
    control.stop();
    running.await.unwrap().unwrap();
}
