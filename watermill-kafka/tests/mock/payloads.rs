//! Payloads lie in the client's memory, and outlive everything else of it.

use watermill_core::{Message, Publisher as _};
use watermill_kafka::{KafkaPublisher, KafkaPublisherConfig};

use crate::{mock_cluster, next, subscribe, topic};

#[tokio::test]
async fn a_payload_and_headers_nobody_has_looked_at_outlive_subscription_and_client() {
    let topic = topic();
    let config = KafkaPublisherConfig::new(mock_cluster::brokers());
    let publisher = KafkaPublisher::new(config).expect("a valid config");
    let sent = Message::with_id("1", vec![7; 10_000]).with_metadata("a", "b");
    publisher.publish(&topic, vec![sent.clone()]).await.expect("it is accepted");

    let mut subscription = subscribe(mock_cluster::subscriber_config(), &topic).await;
    let delivery = next(&mut subscription).await;
    let kept = delivery.message().clone();
    let slice = kept.payload().slice(5_000..5_003);
    delivery.ack();
    subscription.close().await.expect("it closes");
    assert_eq!(kept, sent);
    drop(kept);
    assert_eq!(slice, [7; 3][..]);
}
