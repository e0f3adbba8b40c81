//! A part of a log once more.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use tokio::time::timeout;
use watermill_core::{
    Handler, Message, MessageId, Publisher, Router, Subscriber, Subscription,
    components::{Replay, ReplayLog, ReplayMessage, ReplayPart, ReplayRange},
    error::{SubscribeError, SubscribeErrorKind},
    memory::{History, MemoryBroker, MemoryConfig},
    subscription::Health,
};
use watermill_testkit::patience;

use crate::message;

fn broker() -> MemoryBroker {
    MemoryBroker::with_config(MemoryConfig::default().history(History::All)).unwrap()
}

async fn publish(broker: &MemoryBroker, numbers: std::ops::Range<u64>) {
    broker.publisher().publish("orders", numbers.map(message).collect()).await.unwrap();
}

async fn next(subscription: &mut Subscription) -> watermill_core::Delivery {
    timeout(patience(), subscription.next()).await.expect("a message").unwrap().unwrap()
}

/// What a handler receives until the replay is done.
async fn replayed<L: ReplayLog + 'static>(replay: Replay<L>) -> Vec<String> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = seen.clone();
    let index = move |id: MessageId| {
        note.lock().unwrap().push(id.to_string());
        async {}
    };
    let done = replay.done();
    let router = Router::new().add(Handler::new("index", index).from(replay, "orders"));
    timeout(patience(), router.run_until(done)).await.expect("it is done").unwrap();
    let seen = seen.lock().unwrap();
    seen.clone()
}

/// A time after everything that has happened, and before everything that will.
fn between() -> SystemTime {
    let before = SystemTime::now();
    std::iter::repeat_with(SystemTime::now).find(|now| *now > before + Duration::from_micros(1)).unwrap()
}

#[tokio::test]
async fn a_range_of_offsets_is_handled_once_more_and_no_group_moves() {
    let broker = broker();
    let shop = broker.subscriber().group("shop");
    let mut reading = shop.subscribe("orders").await.unwrap();
    publish(&broker, 0..10).await;
    for _ in 0..3 {
        next(&mut reading).await.ack();
    }
    assert_eq!(replayed(Replay::new(broker.clone()).from_offset(2).until_offset(5)).await, ["2", "3", "4"]);
    assert_eq!(replayed(Replay::new(broker.clone()).from_offset(8)).await, ["8", "9"]);
    assert_eq!(replayed(Replay::new(broker.clone()).from_offset(70)).await, [""; 0], "beyond the end");
    assert_eq!(next(&mut reading).await.id().as_str(), "3");
}

#[tokio::test]
async fn a_range_of_times_ends_before_what_was_published_then() {
    let broker = broker();
    publish(&broker, 0..2).await;
    let first = between();
    publish(&broker, 2..4).await;
    let second = between();
    publish(&broker, 4..6).await;
    let replay = || Replay::new(broker.clone());
    assert_eq!(replayed(replay().from_time(first).until_time(second)).await, ["2", "3"]);
    assert_eq!(replayed(replay().until_time(first)).await, ["0", "1"]);
    assert_eq!(replayed(replay().from_time(second)).await, ["4", "5"]);
    assert_eq!(replayed(replay().from_time(SystemTime::now())).await, [""; 0]);
}

#[tokio::test]
async fn many_times_what_is_read_ahead_comes_in_order() {
    let broker = MemoryBroker::with_config(MemoryConfig::default().history(History::All).capacity(10_000));
    let broker = broker.unwrap();
    publish(&broker, 0..5_000).await;
    let expected: Vec<_> = (0..5_000).map(|number| number.to_string()).collect();
    assert_eq!(replayed(Replay::new(broker)).await, expected);
}

#[tokio::test]
async fn it_is_done_when_all_is_settled_and_has_nothing_that_came_later() {
    let broker = broker();
    publish(&broker, 0..3).await;
    let replay = Replay::new(broker.clone());
    let mut subscription = replay.subscribe("orders").await.unwrap();
    publish(&broker, 3..5).await;
    next(&mut subscription).await.nack();
    let again = next(&mut subscription).await;
    assert_eq!((again.id().as_str(), again.info().attempt()), ("0", 2), "before any other");
    assert_eq!((again.info().offset(), again.info().group()), (Some(0), None));
    again.ack();
    next(&mut subscription).await.reject("nobody wants it");
    let last = next(&mut subscription).await;
    assert!(replay.done().now_or_never().is_none(), "the last is not settled");
    last.ack_confirmed().await.unwrap();
    timeout(patience(), replay.done()).await.expect("all are settled");
    assert!(subscription.next().now_or_never().is_none(), "the rest is not for it");
    subscription.close().await.unwrap();
}

#[tokio::test]
async fn one_that_is_broken_off_is_not_done_and_the_next_begins_anew() {
    let broker = broker();
    publish(&broker, 0..2).await;
    let replay = Replay::new(broker);
    let mut subscription = replay.subscribe("orders").await.unwrap();
    next(&mut subscription).await.ack();
    subscription.close().await.unwrap();
    assert!(replay.done().now_or_never().is_none());
    let mut subscription = replay.subscribe("orders").await.unwrap();
    for id in ["0", "1"] {
        let delivery = next(&mut subscription).await;
        assert_eq!(delivery.id().as_str(), id);
        delivery.ack();
    }
    timeout(patience(), replay.done()).await.expect("the second has it all");
    replay.close().await.unwrap();
    assert_eq!(
        replay.subscribe("orders").await.unwrap_err().kind(),
        SubscribeErrorKind::Closed,
        "after the end"
    );
}

#[tokio::test]
async fn what_cannot_be_replayed_is_refused() {
    let without_history = MemoryBroker::new();
    let refused = Replay::new(without_history).subscribe("orders").await.unwrap_err();
    assert_eq!(refused.kind(), SubscribeErrorKind::Unsupported);
    assert!(refused.to_string().contains("history"), "{refused}");
    let replay = Replay::new(broker());
    assert_eq!(replay.subscribe("orders").await.unwrap_err().kind(), SubscribeErrorKind::Topic);
    assert_eq!(
        replay.in_group("shop").err().map(|error| error.kind()),
        Some(SubscribeErrorKind::Unsupported)
    );
}

#[tokio::test]
async fn one_partition_is_replayed_alone_and_one_that_is_missing_is_refused() {
    let log = || Sometimes { away: AtomicU32::new(0) };
    assert_eq!(replayed(Replay::new(log()).partition(0)).await, ["0-0", "0-1", "0-2"]);
    let missing = Replay::new(log()).partition(2).subscribe("orders").await.unwrap_err();
    assert_eq!(missing.kind(), SubscribeErrorKind::Topic);
}

/// A log of five messages of 10 MiB each, which are read one by one.
struct Large {
    payload: Bytes,
    reads: Arc<AtomicU32>,
}

#[async_trait]
impl ReplayLog for Large {
    fn backend(&self) -> &'static str {
        "large"
    }

    async fn locate(&self, _topic: &str, _range: &ReplayRange) -> Result<Vec<ReplayPart>, SubscribeError> {
        Ok(vec![ReplayPart { partition: 0, from: 0, until: 5 }])
    }

    async fn read(
        &self,
        _topic: &str,
        part: &ReplayPart,
        _limit: usize,
    ) -> Result<Vec<ReplayMessage>, SubscribeError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let message = Ok(Message::new(self.payload.clone()));
        Ok(vec![ReplayMessage { offset: part.from, published_at: None, message }])
    }
}

#[tokio::test(start_paused = true)]
async fn what_nobody_has_settled_is_bounded_by_its_bytes() {
    let (payload, reads) = (Bytes::from(vec![7; 10 * 1024 * 1024]), Arc::new(AtomicU32::new(0)));
    let replay = Replay::new(Large { payload, reads: reads.clone() });
    let mut subscription = replay.subscribe("orders").await.unwrap();
    let first = next(&mut subscription).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(reads.load(Ordering::SeqCst), 2, "the second is beyond 16 MiB");
    first.ack();
    for _ in 1..5 {
        next(&mut subscription).await.ack();
    }
    replay.done().await;
    assert_eq!(reads.load(Ordering::SeqCst), 5);
    subscription.close().await.unwrap();
}

/// A log of two partitions with three messages each, of which one is none, that is away for some calls.
struct Sometimes {
    away: AtomicU32,
}

#[async_trait]
impl ReplayLog for Sometimes {
    fn backend(&self) -> &'static str {
        "sometimes"
    }

    async fn locate(&self, _topic: &str, _range: &ReplayRange) -> Result<Vec<ReplayPart>, SubscribeError> {
        Ok([0, 1].map(|partition| ReplayPart { partition, from: 0, until: 3 }).to_vec())
    }

    async fn read(
        &self,
        topic: &str,
        part: &ReplayPart,
        limit: usize,
    ) -> Result<Vec<ReplayMessage>, SubscribeError> {
        if self.away.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |away| away.checked_sub(1)).is_ok() {
            return Err(SubscribeError::new(SubscribeErrorKind::Unavailable, topic).because("it is away"));
        }
        let message = |offset: u64| match (part.partition, offset) {
            (1, 1) => Err("it is none".into()),
            (partition, offset) => Ok(Message::with_id(format!("{partition}-{offset}"), "x")),
        };
        let replayed = |offset| ReplayMessage { offset, published_at: None, message: message(offset) };
        Ok((part.from..part.until).take(limit.min(2)).map(replayed).collect())
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_away_is_read_on_later_and_the_status_says_so() {
    let replay = Replay::new(Sometimes { away: AtomicU32::new(3) });
    let mut subscription = replay.subscribe("orders").await.unwrap();
    for _ in 0..3 {
        let error = subscription.next().await.unwrap().unwrap_err();
        assert_eq!(error.kind(), SubscribeErrorKind::Unavailable);
        assert!(matches!(subscription.status().health, Health::Degraded { .. }));
    }
    let (mut ids, mut errors) = (Vec::new(), 0);
    let mut until_done = subscription.by_ref().take_until(Box::pin(replay.done()));
    while let Some(next) = until_done.next().await {
        match next {
            Ok(delivery) => {
                ids.push(delivery.id().to_string());
                delivery.ack();
            }
            Err(error) => {
                assert_eq!(error.kind(), SubscribeErrorKind::Undecodable);
                errors += 1;
            }
        }
    }
    ids.sort();
    assert_eq!(ids, ["0-0", "0-1", "0-2", "1-0", "1-2"]);
    assert_eq!(errors, 1, "the record that is no message is passed, and said to be");
    assert_eq!(subscription.status().health, Health::Healthy);
    subscription.close().await.unwrap();
}
