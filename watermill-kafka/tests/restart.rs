//! A broker that crashes and comes back, with the test of the conformance suite for that. In a binary of
//! its own, because each test of that suite would start a broker.

use std::sync::Arc;

use async_trait::async_trait;
use watermill_kafka::{
    CreateTopics, KafkaPublisher, KafkaPublisherConfig, KafkaSubscriber, KafkaSubscriberConfig,
};
use watermill_testkit::{Backend, Connection, Lack, PrivateServer, Service, suite};

/// A broker for this test alone.
struct Restartable(Arc<PrivateServer>);

#[async_trait]
impl Backend for Restartable {
    async fn connect(&self) -> Connection {
        let publisher = KafkaPublisher::new(KafkaPublisherConfig::new(self.0.url()));
        let reading = KafkaSubscriberConfig::new(self.0.url()).create_topics(CreateTopics::new(3, 1));
        let subscriber = KafkaSubscriber::new(reading);
        Connection::new(publisher.expect("a valid config"), subscriber.expect("a valid config"))
    }

    fn lacks(&self) -> &[Lack] {
        &[Lack::ConsumerTimeout, Lack::StableOwnership]
    }

    async fn restart(&self) {
        let server = self.0.clone();
        let restarted = tokio::task::spawn_blocking(move || {
            server.kill();
            server.start_again();
        });
        restarted.await.expect("the broker comes back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_broker_loses_nothing() {
    let backend = Restartable(Arc::new(PrivateServer::start(Service::KAFKA)));
    suite::delivery::a_restart_of_the_server_loses_nothing(Arc::new(backend)).await;
}
