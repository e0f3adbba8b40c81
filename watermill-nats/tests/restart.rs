//! A server that crashes and comes back, with the test of the conformance suite for that. In a binary of its own,
//! because each test of that suite would start a server.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use watermill_core::Backoff;
use watermill_nats::{NatsPublisher, NatsPublisherConfig, NatsSubscriber, NatsSubscriberConfig};
use watermill_testkit::{Backend, Connection, Lack, PrivateServer, Service, suite};

/// A server for this test alone.
struct Restartable(Arc<PrivateServer>);

#[async_trait]
impl Backend for Restartable {
    async fn connect(&self) -> Connection {
        let client = async_nats::connect(self.0.url()).await.expect("a server");
        let reading = NatsSubscriberConfig::new("suite")
            .ack_wait(Duration::from_secs(2))
            .retry(Backoff::constant(Duration::from_millis(100)));
        let publisher = NatsPublisher::new(client.clone(), NatsPublisherConfig::default());
        let subscriber = NatsSubscriber::new(client, reading);
        Connection::new(publisher.expect("a valid config"), subscriber.expect("a valid config"))
    }

    fn lacks(&self) -> &[Lack] {
        &[Lack::ConsumerTimeout]
    }

    async fn restart(&self) {
        let server = self.0.clone();
        let restarted = tokio::task::spawn_blocking(move || {
            server.kill();
            server.start_again();
        });
        restarted.await.expect("the server comes back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_server_loses_nothing() {
    let backend = Restartable(Arc::new(PrivateServer::start(Service::NATS)));
    suite::delivery::a_restart_of_the_server_loses_nothing(Arc::new(backend)).await;
}
