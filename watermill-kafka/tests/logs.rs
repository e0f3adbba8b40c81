//! What is in the log while brokers are away. In a binary of its own, for it looks at the log of the whole process.

use std::{collections::HashMap, time::Duration};

use futures::StreamExt;
use rdkafka::mocking::MockCluster;
use tracing::Level;
use watermill_core::{Message, Publisher as _, Subscriber as _, subscription::Health};
use watermill_kafka::{KafkaPublisher, KafkaPublisherConfig, KafkaSubscriber, KafkaSubscriberConfig};
use watermill_testkit::{LogLines, patience};

#[tokio::test]
async fn while_brokers_are_away_nothing_is_said_twice_and_nothing_at_info() {
    let mut lines = LogLines::of_the_process("kafka");
    let cluster = MockCluster::new(1).expect("a mock cluster starts");
    cluster.create_topic("orders", 1, 1).expect("the topic is made");
    let publisher = KafkaPublisherConfig::new(cluster.bootstrap_servers())
        .delivery_timeout(Duration::from_secs(5))
        // Kilobytes of them, which nobody reads.
        .option("statistics.interval.ms", "50");
    let publisher = KafkaPublisher::new(publisher).expect("a valid config");
    publisher.publish("orders", vec![Message::new("x")]).await.expect("it is accepted");
    let config = KafkaSubscriberConfig::new(cluster.bootstrap_servers()).group("g");
    let subscriber = KafkaSubscriber::new(config).expect("a valid config");
    let mut subscription = subscriber.subscribe("orders").await.expect("it subscribes");
    let delivery = tokio::time::timeout(patience(), subscription.next()).await.expect("a delivery comes");
    delivery.expect("the stream goes on").expect("no error").ack();
    assert_eq!(lines.take(Level::INFO), [], "there is nothing to say");

    cluster.broker_down(1).expect("the broker goes");
    // It takes as long as a call waits: librdkafka tries some twenty times.
    publisher.publish("orders", vec![Message::new("x")]).await.expect_err("nobody is there");
    assert!(matches!(subscription.status().health, Health::Degraded { .. }));
    let mut said: HashMap<String, usize> = HashMap::new();
    for line in lines.take(Level::INFO) {
        assert!(line.level <= Level::WARN, "{line:?}");
        let essence: String = line.text.chars().filter(|c| !c.is_ascii_digit()).collect();
        *said.entry(essence).or_default() += 1;
    }
    // Once for each of the two clients.
    assert!(said.values().all(|times| *times <= 2), "{said:#?}");
    assert!(said.values().sum::<usize>() <= 20, "{said:#?}");
    assert!(said.keys().filter(|line| line.contains("AllBrokersDown")).count() <= 1, "{said:#?}");
}
