//! Redis pub/sub, on a real server: the suite for what forgets, and what is said when messages were missed.

mod missed;

use async_trait::async_trait;
use futures::StreamExt as _;
use redis::{AsyncCommands as _, Client};
use tokio::time::timeout;
use watermill_core::{
    Delivery, Message, Publisher as _, Subscriber as _, Subscription,
    error::{PublishErrorKind, SubscribeError, SubscribeErrorKind},
};
use watermill_redis::{
    RedisPubSubPublisher, RedisPubSubPublisherConfig, RedisPubSubSubscriber, RedisPubSubSubscriberConfig,
};
use watermill_testkit::{Backend, Connection, Service, patience, unique};

struct PubSub {
    client: Client,
}

#[async_trait]
impl Backend for PubSub {
    async fn connect(&self) -> Connection {
        let subscriber = RedisPubSubSubscriberConfig::default();
        Connection::new(publisher(&self.client), listener(&self.client, subscriber))
    }
}

watermill_testkit::conformance!(at_most_once: PubSub { client: client() });

fn client() -> Client {
    Client::open(Service::REDIS.url()).expect("a URL")
}

fn publisher(client: &Client) -> RedisPubSubPublisher {
    RedisPubSubPublisher::new(client.clone(), RedisPubSubPublisherConfig::default()).expect("a valid config")
}

fn listener(client: &Client, config: RedisPubSubSubscriberConfig) -> RedisPubSubSubscriber {
    RedisPubSubSubscriber::new(client.clone(), config).expect("a valid config")
}

async fn item(subscription: &mut Subscription) -> Result<Delivery, SubscribeError> {
    let next = timeout(patience(), subscription.next()).await;
    next.expect("it comes in time").expect("the stream goes on")
}

#[tokio::test]
async fn what_anybody_publishes_is_a_message_of_that_payload() {
    let topic = unique("topic");
    let mut subscription = listener(&client(), Default::default()).subscribe(&topic).await.unwrap();
    let mut raw = client().get_multiplexed_async_connection().await.unwrap();
    let heard: usize = raw.publish(&topic, "user:42").await.unwrap();
    assert_eq!(heard, 1);
    let delivery = item(&mut subscription).await.unwrap();
    assert_eq!((&**delivery.payload(), delivery.metadata().is_empty()), (&b"user:42"[..], true));
    delivery.ack();
    subscription.close().await.unwrap();
}

#[tokio::test]
async fn what_is_no_message_is_reported_and_holds_nothing_up() {
    let topic = unique("topic");
    let mut subscription = listener(&client(), Default::default()).subscribe(&topic).await.unwrap();
    let mut raw = client().get_multiplexed_async_connection().await.unwrap();
    let _: usize = raw.publish(&topic, &b"\xc1wm\x01"[..]).await.unwrap();
    publisher(&client()).publish(&topic, vec![Message::with_id("1", "")]).await.unwrap();
    assert_eq!(item(&mut subscription).await.unwrap_err().kind(), SubscribeErrorKind::Undecodable);
    assert_eq!(item(&mut subscription).await.unwrap().id(), "1");
    subscription.close().await.unwrap();
}

#[tokio::test]
async fn what_is_larger_than_the_limit_is_refused_before_anything_is_sent() {
    let config = RedisPubSubPublisherConfig::default().value_bytes_max(4);
    let publisher = RedisPubSubPublisher::new(client(), config).unwrap();
    let messages = vec![Message::with_id("1", "1234"), Message::with_id("2", "12345")];
    let error = publisher.publish(&unique("topic"), messages).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Message);
    assert!(error.to_string().contains("message 1: payload has 5 bytes"), "{error}");
}
