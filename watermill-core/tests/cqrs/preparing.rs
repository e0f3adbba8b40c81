//! Payloads that cannot be read before something was fetched.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use watermill_core::{
    Backoff, FailurePolicy, MemoryBroker, PublisherExt as _, Router, State,
    cqrs::{
        Codec, CommandProcessor, Decode, EventProcessor, JsonCodec, Marshaler, Named, Topics, UnknownName,
    },
    error::{BoxError, Nack, Permanent},
};
use watermill_testkit::RecordingPublisher;

use crate::{BookRoom, BookingCancelled, Log, RoomBooked, book, running::Running};

/// JSON that is read only once it was asked for as often as it fails.
#[derive(Clone)]
struct Fetching {
    asked: Arc<AtomicU32>,
    failing: u32,
    fails: fn() -> BoxError,
}

impl Fetching {
    fn new(failing: u32, fails: fn() -> BoxError) -> Self {
        Self { asked: Arc::default(), failing, fails }
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Codec for Fetching {
    fn content_type(&self) -> &'static str {
        "application/json"
    }
}

impl<T: Named + serde::de::DeserializeOwned> Decode<T> for Fetching {
    fn prepare(&self, _: &Bytes) -> Option<BoxFuture<'static, Result<(), BoxError>>> {
        let Self { asked, failing, fails } = self.clone();
        if asked.load(Ordering::Relaxed) > failing {
            return None;
        }
        Some(
            async move {
                tokio::task::yield_now().await;
                if asked.fetch_add(1, Ordering::Relaxed) < failing { Err(fails()) } else { Ok(()) }
            }
            .boxed(),
        )
    }

    fn decode(&self, payload: &Bytes) -> Result<T, BoxError> {
        assert!(self.asked() > self.failing, "it is read before it can be");
        JsonCodec::new().decode(payload)
    }
}

async fn booked(command: BookRoom, State(log): State<Log>) {
    log.note(format!("room {}", command.room));
}

async fn event(event: RoomBooked, State(log): State<Log>) {
    log.note(format!("booked {}", event.room));
}

async fn send<T: Named + serde::Serialize>(broker: &MemoryBroker, topic: &str, value: &T) {
    let message = Marshaler::json().marshal(value).unwrap();
    broker.publisher().publish_one(topic, message).await.unwrap();
}

fn soon() -> Backoff {
    Backoff::constant(Duration::from_millis(1))
}

#[tokio::test(start_paused = true)]
async fn what_a_payload_needs_is_fetched_before_it_is_read_and_its_failure_is_tried_again() {
    let (broker, log) = (MemoryBroker::new(), Log::default());
    let codec = Fetching::new(2, || "it is not there yet".into());
    let commands = CommandProcessor::new(broker.subscriber(), Topics::by_name())
        .with_marshaler(Marshaler::new(codec.clone()));
    let handler = commands.handler("book", booked).on_failure(FailurePolicy::retry(2).backoff(soon()));
    let running = Running::start(Router::new().with_state(log.clone()).add(handler)).await;
    send(&broker, "BookRoom", &book(1)).await;
    send(&broker, "BookRoom", &book(2)).await;
    running.handled("book", 2).await;
    let report = running.stop().await;
    assert_eq!(log.lines(), ["room 1", "room 2"]);
    assert_eq!((codec.asked(), report.handler("book").unwrap().counts.retried), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_the_messages_fault_is_waited_for_and_what_is_ends_with_its_policy() {
    let (broker, log, dead) = (MemoryBroker::new(), Log::default(), RecordingPublisher::new());
    let marshaler = |failing, fails: fn() -> BoxError| Marshaler::new(Fetching::new(failing, fails));
    let away = marshaler(20, || Nack::new("the registry is away").into());
    let never = marshaler(u32::MAX - 1, || Permanent::new("nobody can read it").into());
    let events = |topic, marshaler| {
        EventProcessor::new(broker.subscriber(), Topics::one(topic)).with_marshaler(marshaler)
    };
    let policy = || {
        FailurePolicy::retry(3).backoff(soon()).nack_backoff(soon()).then_dead_letter(dead.clone(), "dead")
    };
    let router = Router::new()
        .with_state(log.clone())
        .add(events("away", away).group("away").on(event).handler().on_failure(policy()))
        .add(events("never", never).group("never").on(event).handler().on_failure(policy()));
    let running = Running::start(router).await;
    send(&broker, "away", &RoomBooked { room: 1 }).await;
    send(&broker, "never", &RoomBooked { room: 2 }).await;
    running.handled("away", 1).await;
    running.handled("never", 1).await;
    let report = running.stop().await;
    assert_eq!(log.lines(), ["booked 1"]);
    let counts = |handler: &str| report.handler(handler).unwrap().counts;
    assert_eq!((counts("away").nacked, counts("away").dead_lettered), (20, 0));
    assert_eq!((counts("never").retried, counts("never").dead_lettered), (0, 1));
}

#[tokio::test]
async fn nothing_is_fetched_for_a_message_that_is_not_handled() {
    let (broker, log) = (MemoryBroker::new(), Log::default());
    let codec = Fetching::new(0, || "no".into());
    let marshaler = || Marshaler::new(codec.clone());
    let events = EventProcessor::new(broker.subscriber(), Topics::one("events"))
        .with_marshaler(marshaler())
        .unknown(UnknownName::Skip);
    let router = Router::new()
        .with_state(log.clone())
        .add(events.handler("one", event))
        .add(events.group("group").on(event).handler());
    let running = Running::start(router).await;
    send(&broker, "events", &BookingCancelled { room: 1 }).await;
    running.handled("one", 1).await;
    running.handled("group", 1).await;
    running.stop().await;
    assert_eq!((codec.asked(), log.lines().len()), (0, 0));
}
