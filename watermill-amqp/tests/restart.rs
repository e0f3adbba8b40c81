//! A server of a test's own, which crashes and comes back, is frozen, and runs out of memory. In a binary of its own,
//! because each test of the conformance suite would start a server.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::StreamExt as _;
use tokio::{
    task::spawn_blocking,
    time::{sleep, timeout},
};
use watermill_amqp::{AmqpPublisher, AmqpPublisherConfig, AmqpSubscriber, AmqpSubscriberConfig, Topology};
use watermill_core::{
    Backoff, Message, Publisher, PublisherExt as _, Subscriber, Subscription,
    error::{PublishErrorKind, SettleErrorKind},
    subscription::Health,
};
use watermill_testkit::{Backend, Connection, Lack, PrivateServer, Service, patience, suite};

struct Restartable(Arc<PrivateServer>);

impl Restartable {
    async fn start() -> Self {
        Self(Arc::new(spawn_blocking(|| PrivateServer::start(Service::RABBITMQ)).await.expect("it starts")))
    }

    async fn blocking(&self, work: impl FnOnce(&PrivateServer) + Send + 'static) {
        let server = self.0.clone();
        spawn_blocking(move || work(&server)).await.expect("the server does as it is told");
    }

    fn publisher(&self) -> AmqpPublisher {
        let config = AmqpPublisherConfig::new(self.0.url(), Topology::pub_sub())
            .heartbeat(Duration::from_secs(1))
            .timeout(Duration::from_secs(1))
            .confirm_timeout(Duration::from_secs(2));
        AmqpPublisher::new(config).expect("a valid config")
    }

    fn subscriber(&self) -> AmqpSubscriber {
        let config = AmqpSubscriberConfig::new(self.0.url(), Topology::pub_sub())
            .group("suite")
            .heartbeat(Duration::from_secs(1))
            .timeout(Duration::from_secs(1))
            .retry(Backoff::constant(Duration::from_millis(100)));
        AmqpSubscriber::new(config).expect("a valid config")
    }
}

#[async_trait]
impl Backend for Restartable {
    async fn connect(&self) -> Connection {
        Connection::new(self.publisher(), self.subscriber())
    }

    fn lacks(&self) -> &[Lack] {
        &[Lack::ConsumerTimeout, Lack::History]
    }

    async fn restart(&self) {
        self.blocking(|server| {
            server.kill();
            server.start_again();
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_server_loses_nothing() {
    suite::delivery::a_restart_of_the_server_loses_nothing(Arc::new(Restartable::start().await)).await;
}

/// Looks until it is so.
async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let looking = async {
        while !is_so() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(patience(), looking).await.unwrap_or_else(|_| panic!("{what}"));
}

/// The next message, whatever trouble is reported before.
async fn next(subscription: &mut Subscription) -> watermill_core::Delivery {
    let next = async {
        loop {
            match subscription.next().await.expect("the stream goes on") {
                Ok(delivery) => return delivery,
                Err(error) => assert!(error.is_retryable(), "{error:?}"),
            }
        }
    };
    timeout(patience(), next).await.expect("it comes in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_is_noticed_by_both_sides_and_gone_on_with() {
    let server = Restartable::start().await;
    let (publisher, subscriber) = (server.publisher(), server.subscriber());
    let mut subscription = subscriber.subscribe("orders").await.unwrap();
    publisher.publish_one("orders", Message::with_id("1", "x")).await.unwrap();
    let held = next(&mut subscription).await;

    server.blocking(PrivateServer::freeze).await;
    let error = publisher.publish_one("orders", Message::with_id("2", "x")).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    let degraded = || matches!(subscription.status().health, Health::Degraded { .. });
    eventually("the subscription says that it does not get on", degraded).await;
    // What came on the connection that is gone is lost, and an ack of it says so.
    assert_ne!(held.ack_confirmed().await.unwrap_err().kind(), SettleErrorKind::Failed);
    server.blocking(PrivateServer::thaw).await;

    // One that was not confirmed may have arrived; the first comes again.
    let mut missing = vec!["1", "3"];
    while let Err(error) = publisher.publish_one("orders", Message::with_id("3", "x")).await {
        assert!(error.is_retryable(), "{error:?}");
    }
    while !missing.is_empty() {
        let delivery = next(&mut subscription).await;
        missing.retain(|id| delivery.id() != *id);
        delivery.ack();
    }
    subscription.close().await.unwrap();
    publisher.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_memory_blocks_who_publishes_and_says_so_and_nobody_else() {
    let server = Restartable::start().await;
    let (publisher, subscriber) = (server.publisher(), server.subscriber());
    let mut subscription = subscriber.subscribe("orders").await.unwrap();
    publisher.publish_one("orders", Message::with_id("1", "x")).await.unwrap();
    assert_eq!(publisher.blocked(), None);

    server.blocking(PrivateServer::alarm).await;
    // The server blocks a connection when it publishes next, and not before; that message waits.
    let error = publisher.publish_one("orders", Message::with_id("2", "x")).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Timeout, "{error:?}");
    assert!(publisher.blocked().is_some(), "the connection is kept");
    let error = publisher.publish_one("orders", Message::with_id("3", "x")).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Unavailable, "{error:?}");
    assert!(error.to_string().contains("nothing was sent"), "{error}");
    next(&mut subscription).await.ack_confirmed().await.unwrap();
    assert_eq!(subscription.status().health, Health::Healthy);

    server.blocking(PrivateServer::calm).await;
    eventually("the publisher is not blocked any more", || publisher.blocked().is_none()).await;
    publisher.publish_one("orders", Message::with_id("3", "x")).await.unwrap();
    for id in ["2", "3"] {
        let delivery = next(&mut subscription).await;
        assert_eq!(delivery.id(), id, "what waited has arrived");
        delivery.ack_confirmed().await.unwrap();
    }
    subscription.close().await.unwrap();
}
