//! A server that crashes and comes back, with the test of the conformance suite for that, and one that is frozen. In a binary
//! of its own, because each test of that suite would start a server.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::StreamExt as _;
use redis::Client;
use tokio::time::{sleep, timeout};
use watermill_core::{
    Backoff, Message, Publisher as _, PublisherExt as _, Subscriber as _, subscription::Health,
};
use watermill_redis::{RedisPublisher, RedisPublisherConfig, RedisSubscriber, RedisSubscriberConfig};
use watermill_testkit::{Backend, Connection, Lack, PrivateServer, Service, patience, suite};

/// A server for this test alone.
struct Restartable(Arc<PrivateServer>);

#[async_trait]
impl Backend for Restartable {
    async fn connect(&self) -> Connection {
        let client = Client::open(self.0.url()).expect("a URL");
        let reading =
            RedisSubscriberConfig::new("suite").retry(Backoff::constant(Duration::from_millis(100)));
        let publisher = RedisPublisher::new(client.clone(), RedisPublisherConfig::default());
        let subscriber = RedisSubscriber::new(client, reading);
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
    let backend = Restartable(Arc::new(PrivateServer::start(Service::REDIS)));
    suite::delivery::a_restart_of_the_server_loses_nothing(Arc::new(backend)).await;
}

async fn told(server: &Arc<PrivateServer>, work: impl FnOnce(&PrivateServer) + Send + 'static) {
    let server = server.clone();
    tokio::task::spawn_blocking(move || work(&server)).await.expect("the server does as it is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_is_noticed_nobody_waits_for_ever_and_nothing_is_lost() {
    const AT_MOST: Duration = Duration::from_millis(500);
    let server = Arc::new(PrivateServer::start(Service::REDIS));
    let client = Client::open(server.url()).unwrap();
    let publisher =
        RedisPublisher::new(client.clone(), RedisPublisherConfig::default().timeout(AT_MOST)).unwrap();
    let reading = RedisSubscriberConfig::new("g")
        .visibility_timeout(Duration::from_secs(2))
        .retry(Backoff::constant(Duration::from_millis(50)))
        .timeout(AT_MOST);
    let subscriber = RedisSubscriber::new(client, reading).unwrap();
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    let message = |id: &str| Message::with_id(id, "x");
    publisher.publish("t", vec![message("0"), message("1"), message("2")]).await.unwrap();
    let held = timeout(patience(), subscription.next()).await.unwrap().unwrap().unwrap();

    told(&server, PrivateServer::freeze).await;
    let error = timeout(patience(), publisher.publish_one("t", message("3"))).await.unwrap().unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    let noticed = async {
        while !matches!(subscription.status().health, Health::Degraded { .. }) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(patience(), noticed).await.expect("the subscription says so");

    told(&server, PrivateServer::thaw).await;
    // It comes again, whether the server has counted it as ours all the time or has given it to somebody else.
    drop(held);
    let mut missing = vec!["0", "1", "2"];
    while !missing.is_empty() {
        match timeout(patience(), subscription.next())
            .await
            .expect("it comes in time")
            .expect("the stream goes on")
        {
            Ok(delivery) => {
                missing.retain(|id| delivery.id() != *id);
                delivery.ack();
            }
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
    }
    subscription.close().await.unwrap();
}
