//! What is in the log while brokers are away. In a binary of its own, for it looks at the log of the whole process.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt;
use rdkafka::mocking::MockCluster;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};
use watermill_core::{Message, Publisher as _, Subscriber as _, subscription::Health};
use watermill_kafka::{KafkaPublisher, KafkaPublisherConfig, KafkaSubscriber, KafkaSubscriberConfig};
use watermill_testkit::patience;

/// Keeps lines of the level INFO and above that are about Kafka.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<(Level, String)>>>);

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        *metadata.level() <= Level::INFO && (target.contains("kafka") || target.contains("rdkafka"))
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push((*event.metadata().level(), text.0));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push_str(&format!("{}={value:?} ", field.name()));
    }
}

#[tokio::test]
async fn while_brokers_are_away_nothing_is_said_twice_and_nothing_at_info() {
    let lines = Lines::default();
    tracing::subscriber::set_global_default(lines.clone()).expect("it is the only one");
    let cluster = MockCluster::new(1).expect("a mock cluster starts");
    cluster.create_topic("orders", 1, 1).expect("the topic is made");
    let publisher =
        KafkaPublisherConfig::new(cluster.bootstrap_servers()).delivery_timeout(Duration::from_secs(5));
    let publisher = KafkaPublisher::new(publisher).expect("a valid config");
    publisher.publish("orders", vec![Message::new("x")]).await.expect("it is accepted");
    let config = KafkaSubscriberConfig::new(cluster.bootstrap_servers()).group("g");
    let subscriber = KafkaSubscriber::new(config).expect("a valid config");
    let mut subscription = subscriber.subscribe("orders").await.expect("it subscribes");
    let delivery = tokio::time::timeout(patience(), subscription.next()).await.expect("a delivery comes");
    delivery.expect("the stream goes on").expect("no error").ack();
    assert_eq!(*lines.0.lock().unwrap(), [], "there is nothing to say");

    cluster.broker_down(1).expect("the broker goes");
    // It takes as long as a call waits: librdkafka tries some twenty times.
    publisher.publish("orders", vec![Message::new("x")]).await.expect_err("nobody is there");
    assert!(matches!(subscription.status().health, Health::Degraded { .. }));
    let mut said: HashMap<String, usize> = HashMap::new();
    for (level, line) in lines.0.lock().unwrap().iter() {
        assert!(*level <= Level::WARN, "{line}");
        let essence: String = line.chars().filter(|c| !c.is_ascii_digit()).collect();
        *said.entry(essence).or_default() += 1;
    }
    // Once for each of the two clients.
    assert!(said.values().all(|times| *times <= 2), "{said:#?}");
    assert!(said.values().sum::<usize>() <= 20, "{said:#?}");
    assert!(said.keys().filter(|line| line.contains("AllBrokersDown")).count() <= 1, "{said:#?}");
}
