//! Dead letters on a topic of a broker.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use tokio::time::Instant;
use watermill_core::{Message, Publisher, PublisherExt, Subscriber, memory::MemoryBroker, metadata_keys};
use watermill_forwarder::{
    Envelope,
    dead_letters::{DeadLetters, Filter, Pace, TopicStore},
};

/// A broker with letters, and a group that looks at them.
struct Desk {
    broker: MemoryBroker,
    operator: Arc<dyn Subscriber>,
}

impl Desk {
    async fn with(letters: &[(&str, &str, &str)]) -> Self {
        let broker = MemoryBroker::default();
        let operator = broker.subscriber().in_group("operator").unwrap();
        operator.initialize("dead").await.unwrap();
        let forwarder = broker.subscriber().in_group("forwarder").unwrap();
        forwarder.initialize("outbox").await.unwrap();
        for (id, destination, reason) in letters {
            let letter = Envelope::new(*destination, Message::with_id(*id, "x").with_key("k")).wrap();
            let letter = letter.with_metadata(metadata_keys::REASON_POISONED, *reason);
            broker.publisher().publish_one("dead", letter).await.unwrap();
        }
        Self { broker, operator }
    }

    async fn open(&self) -> DeadLetters<TopicStore> {
        let publisher: Arc<dyn Publisher> = Arc::new(self.broker.publisher());
        let store = TopicStore::open(&*self.operator, publisher, "dead").await.unwrap();
        DeadLetters::new(store, "outbox")
    }

    async fn ids(&self) -> Vec<String> {
        let letters = self.open().await;
        let ids = letters.list(&Filter::default(), 100).await.unwrap().into_iter().map(|letter| letter.id);
        let ids = ids.collect();
        letters.into_store().close().await.unwrap();
        ids
    }
}

const LETTERS: &[(&str, &str, &str)] = &[
    ("1", "orders", "publish to \"orders\": a message cannot be represented: 1000001 bytes"),
    ("2", "invoices", "publish to \"invoices\": the backend refused"),
    ("3", "orders", "publish to \"orders\": a message cannot be represented: 2000002 bytes"),
];

#[tokio::test(start_paused = true)]
async fn letters_are_grouped_by_destination_kind_and_cause() {
    let desk = Desk::with(LETTERS).await;
    let letters = desk.open().await;
    let groups = letters.groups(&Filter::default()).await.unwrap().groups;
    let told: Vec<_> =
        groups.iter().map(|group| (group.destination.as_deref(), group.kind, group.count)).collect();
    assert_eq!(told, [(Some("orders"), "message", 2), (Some("invoices"), "refused", 1)]);
    assert_eq!(groups[0].example.id, "1");
    letters.into_store().close().await.unwrap();
    assert_eq!(desk.ids().await, ["1", "2", "3"], "looking takes nothing");
}

#[tokio::test(start_paused = true)]
async fn those_that_are_meant_are_sent_again_and_the_others_stay() {
    let desk = Desk::with(LETTERS).await;
    let letters = desk.open().await;
    let filter = Filter::default().destination("orders").kind("message");
    let dry = letters.redrive(&filter, Pace { dry_run: true, ..Pace::default() }).await.unwrap();
    assert_eq!((dry.matched, dry.done), (2, 0));
    let done = letters.redrive(&filter, Pace::default()).await.unwrap();
    assert_eq!((done.matched, done.done, done.overtaken), (2, 2, 2));
    letters.into_store().close().await.unwrap();
    assert_eq!(desk.ids().await, ["2"]);

    let forwarder = desk.broker.subscriber().in_group("forwarder").unwrap();
    let mut outbox = forwarder.subscribe("outbox").await.unwrap();
    for id in ["1", "3"] {
        let delivery = outbox.next().await.unwrap().unwrap();
        let envelope = Envelope::unwrap(delivery.message()).unwrap();
        assert_eq!((envelope.destination(), envelope.message().id().as_str()), ("orders", id));
        assert_eq!(envelope.message().key().unwrap(), "k");
        delivery.ack();
    }
}

#[tokio::test(start_paused = true)]
async fn letters_are_sent_again_no_faster_than_asked_for() {
    let many: Vec<String> = (0..30).map(|number| number.to_string()).collect();
    let many: Vec<_> = many.iter().map(|id| (&**id, "orders", "no")).collect();
    let desk = Desk::with(&many).await;
    let letters = desk.open().await;
    let began = Instant::now();
    let done =
        letters.redrive(&Filter::default(), Pace { per_second: Some(10), ..Pace::default() }).await.unwrap();
    assert_eq!(done.done, 30);
    assert_eq!(began.elapsed(), Duration::from_secs(2), "ten at once, and ten more each second");
}
