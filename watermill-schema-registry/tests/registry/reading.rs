//! Handlers whose messages wait for schemas.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use watermill_core::{
    Backoff, FailurePolicy, MemoryBroker, Message, PublisherExt as _, Router, State,
    cqrs::{EventProcessor, Marshaler, Named, Schema, Topics},
    router::{Phase, Report, RouterControl, RunError},
};
use watermill_schema_registry::{AvroCodec, SchemaRegistryClient};
use watermill_testkit::{RecordingPublisher, patience};

use crate::server::{Answer, Server};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Booked {
    room: i32,
}

impl Named for Booked {
    const NAME: &'static str = "Booked";
}

const BOOKED: &str = r#"{"type": "record", "name": "Booked", "fields": [{"name": "room", "type": "int"}]}"#;

async fn booked(event: Booked, State(seen): State<mpsc::Sender<i32>>) {
    seen.send(event.room).await.expect("the test waits for it");
}

/// A handler of what was booked, whose policy tries twice and gives up then.
struct Guests {
    broker: MemoryBroker,
    dead: RecordingPublisher,
    handled: mpsc::Receiver<i32>,
    control: RouterControl,
    running: JoinHandle<Result<Report, RunError>>,
}

impl Guests {
    async fn start(registry: SchemaRegistryClient) -> Self {
        let (broker, dead) = (MemoryBroker::new(), RecordingPublisher::new());
        let codec = AvroCodec::new(registry).read::<Booked>(Schema::avro(BOOKED)).await.unwrap();
        let processor = EventProcessor::new(broker.subscriber(), Topics::one("events"))
            .with_marshaler(Marshaler::new(codec));
        let soon = Backoff::constant(Duration::from_millis(1));
        let policy = FailurePolicy::retry(1).backoff(soon).nack_backoff(soon);
        let handler = processor.group("guests").on(booked).handler();
        let (seen, handled) = mpsc::channel(100);
        let router = Router::new()
            .with_state(seen)
            .add(handler.on_failure(policy.then_dead_letter(dead.clone(), "dead")));
        let control = router.control();
        let running = tokio::spawn(router.run());
        control.reached(Phase::Running).await;
        Self { broker, dead, handled, control, running }
    }

    /// Publishes that a room is booked, by the schema of a number.
    async fn publish(&self, schema: u8, room: u8) {
        let mut message = Message::new(vec![0, 0, 0, 0, schema, room * 2]);
        message.metadata_mut().insert("name", "Booked");
        self.broker.publisher().publish_one("events", message).await.unwrap();
    }

    async fn handled(&mut self) -> Option<i32> {
        timeout(patience(), self.handled.recv()).await.expect("a message is handled")
    }

    async fn stop(self) {
        self.control.stop();
        self.running.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn messages_wait_for_a_registry_that_is_away_and_are_handled_in_their_order() {
    let server = Server::start().await;
    server.keep(7, serde_json::json!({ "schema": BOOKED }));
    let impatient = server.config().call_timeout(Duration::ZERO);
    let mut guests = Guests::start(SchemaRegistryClient::new(impatient).unwrap()).await;
    // It is away for longer than the policy would try.
    server.next(vec![Answer::Status(503); 10]);
    for room in 1..=3 {
        guests.publish(7, room).await;
    }
    for room in 1..=3 {
        assert_eq!(guests.handled().await, Some(room));
    }
    assert!(guests.dead.published("dead").is_empty());
    assert_eq!(server.asked().len(), 11);
    guests.stop().await;
}

#[tokio::test]
async fn a_message_whose_schema_nobody_knows_is_dead_lettered_when_its_policy_gives_up() {
    let server = Server::start().await;
    server.keep(7, serde_json::json!({ "schema": BOOKED }));
    let mut guests = Guests::start(server.client()).await;
    guests.publish(9, 1).await;
    guests.publish(7, 2).await;
    assert_eq!(guests.handled().await, Some(2));
    let dead = guests.dead.await_published(1).await.remove(0).1;
    assert_eq!(&dead.payload()[..], b"\x00\x00\x00\x00\x09\x02");
    let reason = dead.metadata().get("reason_poisoned").unwrap();
    assert!(reason.contains("fetch the schema 9") && reason.contains("40403"), "{reason}");
    let asked = server.asked().iter().filter(|asked| asked.ends_with("/9")).count();
    assert!(asked <= 2, "once for each try at the most");
    guests.stop().await;
}
