//! What is special about Redis, on a real server.

mod interop;

use std::{net::TcpListener, time::Duration};

use futures::StreamExt as _;
use redis::{AsyncCommands as _, Client, aio::MultiplexedConnection, cmd};
use tokio::time::timeout;
use watermill_core::{
    Delivery, Message, Publisher, Subscriber, Subscription,
    error::{PublishErrorKind, SettleErrorKind, SubscribeErrorKind},
};
use watermill_redis::{
    RedisPublisher, RedisPublisherConfig, RedisSubscriber, RedisSubscriberConfig, StartPosition,
};
use watermill_testkit::{Service, patience, unique};

fn client() -> Client {
    Client::open(Service::REDIS.url()).unwrap()
}

async fn raw() -> MultiplexedConnection {
    client().get_multiplexed_async_connection().await.unwrap()
}

fn publisher(config: RedisPublisherConfig) -> RedisPublisher {
    RedisPublisher::new(client(), config).unwrap()
}

fn subscriber(config: RedisSubscriberConfig) -> RedisSubscriber {
    RedisSubscriber::new(client(), config).unwrap()
}

fn messages(count: usize) -> Vec<Message> {
    (0..count).map(|n| Message::with_id(n.to_string(), "x")).collect()
}

async fn next(subscription: &mut Subscription) -> Delivery {
    let next = timeout(patience(), subscription.next()).await;
    next.expect("it comes in time").expect("the stream goes on").expect("there is no error")
}

#[tokio::test]
async fn entries_are_those_of_gos_library() {
    let topic = unique("topic");
    let message = Message::with_id("1", "hello").with_metadata("a", "b");
    publisher(RedisPublisherConfig::default()).publish(&topic, vec![message.clone()]).await.unwrap();
    let entries: Vec<(String, Vec<Vec<u8>>)> =
        cmd("XRANGE").arg(&topic).arg("-").arg("+").query_async(&mut raw().await).await.unwrap();
    let expected: [&[u8]; 6] =
        [b"_watermill_message_uuid", b"1", b"metadata", b"\x81\xa1a\xa1b", b"payload", b"hello"];
    assert_eq!(entries[0].1, expected);

    let go = [("payload", &b"hello"[..]), ("metadata", b"\x81\xa1a\xa1b"), ("_watermill_message_uuid", b"1")];
    raw().await.xadd::<_, _, _, _, ()>(&topic, "*", &go).await.unwrap();
    let mut subscription = subscriber(RedisSubscriberConfig::new("g")).subscribe(&topic).await.unwrap();
    for _ in 0..2 {
        let delivery = next(&mut subscription).await;
        assert_eq!(delivery.message().clone().without_context(), message);
        delivery.ack();
    }
    subscription.close().await.unwrap();
}

#[tokio::test]
async fn a_consumer_that_starts_again_finds_what_it_had_and_its_former_life_has_lost_it() {
    let topic = unique("topic");
    publisher(RedisPublisherConfig::default()).publish(&topic, messages(3)).await.unwrap();
    let named = || subscriber(RedisSubscriberConfig::new("g").consumer("one"));
    let (former, again) = (named(), named());
    let mut frozen = former.subscribe(&topic).await.unwrap();
    let held = next(&mut frozen).await;
    assert_eq!((held.id().as_str(), held.info().attempt()), ("0", 1));

    // Long before the visibility timeout, and in order.
    let mut subscription = again.subscribe(&topic).await.unwrap();
    for id in ["0", "1", "2"] {
        let delivery = next(&mut subscription).await;
        assert_eq!((delivery.id().as_str(), delivery.info().attempt()), (id, 2));
        delivery.ack_confirmed().await.unwrap();
    }
    assert_eq!(held.ack_confirmed().await.unwrap_err().kind(), SettleErrorKind::Lost);
    frozen.close().await.unwrap();
    subscription.close().await.unwrap();
}

#[tokio::test]
async fn what_is_given_back_comes_to_others_at_once_and_leaves_no_consumer_behind() {
    let topic = unique("topic");
    publisher(RedisPublisherConfig::default()).publish(&topic, messages(2)).await.unwrap();
    let subscriber = subscriber(RedisSubscriberConfig::new("g"));
    let mut subscription = subscriber.subscribe(&topic).await.unwrap();
    drop(next(&mut subscription).await);
    let held = next(&mut subscription).await;
    assert_eq!((held.id().as_str(), held.info().attempt()), ("0", 2));
    subscription.close().await.unwrap();

    let mut subscription = subscriber.subscribe(&topic).await.unwrap();
    for expected in [("0", 3), ("1", 1)] {
        let delivery = next(&mut subscription).await;
        assert_eq!((delivery.id().as_str(), delivery.info().attempt()), expected);
        delivery.ack();
    }
    subscription.close().await.unwrap();
    let left: Vec<Vec<redis::Value>> =
        cmd("XINFO").arg("CONSUMERS").arg(&topic).arg("g").query_async(&mut raw().await).await.unwrap();
    assert_eq!(left.len(), 1, "but the one that has what is given back: {left:?}");
}

#[tokio::test]
async fn acked_messages_are_deleted_and_streams_are_trimmed_by_option() {
    let topic = unique("topic");
    let trimming = publisher(RedisPublisherConfig::default().stream_length_max(1));
    trimming.publish(&topic, messages(1_000)).await.unwrap();
    let left: usize = raw().await.xlen(&topic).await.unwrap();
    assert!(left < 1_000, "{left}");

    let deleting = subscriber(RedisSubscriberConfig::new("g").delete_acked(true));
    let mut subscription = deleting.subscribe(&topic).await.unwrap();
    for _ in 0..left {
        next(&mut subscription).await.ack();
    }
    subscription.close().await.unwrap();
    assert_eq!(raw().await.xlen::<_, usize>(&topic).await.unwrap(), 0);
}

#[tokio::test]
async fn what_is_no_message_is_reported_and_holds_nothing_up() {
    let topic = unique("topic");
    raw().await.xadd::<_, _, _, _, ()>(&topic, "*", &[("a", "b")]).await.unwrap();
    publisher(RedisPublisherConfig::default()).publish(&topic, messages(1)).await.unwrap();
    let mut subscription = subscriber(RedisSubscriberConfig::new("g")).subscribe(&topic).await.unwrap();
    let error = timeout(patience(), subscription.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Undecodable);
    next(&mut subscription).await.ack();
    subscription.close().await.unwrap();
    let pending: (usize, String, String, redis::Value) =
        cmd("XPENDING").arg(&topic).arg("g").query_async(&mut raw().await).await.unwrap();
    assert_eq!(pending.0, 1, "it is not lost");
}

#[tokio::test]
async fn a_group_that_was_removed_is_made_again() {
    let topic = unique("topic");
    let publisher = publisher(RedisPublisherConfig::default());
    let mut subscription = subscriber(RedisSubscriberConfig::new("g")).subscribe(&topic).await.unwrap();
    let _: () = raw().await.del(&topic).await.unwrap();
    publisher.publish(&topic, messages(1)).await.unwrap();
    next(&mut subscription).await.ack_confirmed().await.unwrap();
    subscription.close().await.unwrap();
}

#[tokio::test]
async fn a_new_group_can_begin_with_what_is_published_later() {
    let topic = unique("topic");
    let publisher = publisher(RedisPublisherConfig::default());
    publisher.publish(&topic, vec![Message::with_id("before", "x")]).await.unwrap();
    let config = RedisSubscriberConfig::new("g").start(StartPosition::Latest);
    let mut subscription = subscriber(config).subscribe(&topic).await.unwrap();
    publisher.publish(&topic, vec![Message::with_id("after", "x")]).await.unwrap();
    assert_eq!(next(&mut subscription).await.id(), "after");
    subscription.close().await.unwrap();
}

#[tokio::test]
async fn what_is_there_under_the_name_and_is_no_stream_is_an_error_of_the_topic() {
    let topic = unique("topic");
    let _: () = raw().await.set(&topic, "text").await.unwrap();
    let error = publisher(RedisPublisherConfig::default()).publish(&topic, messages(2)).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Topic, "{error:?}");
    let error = subscriber(RedisSubscriberConfig::new("g")).subscribe(&topic).await.unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Topic, "{error:?}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_not_waited_for_for_ever() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Client::open(format!("redis://{}/", silent.local_addr().unwrap())).unwrap();
    let at_most = Duration::from_millis(50);
    let config = RedisPublisherConfig::default().timeout(at_most);
    let error =
        RedisPublisher::new(client.clone(), config).unwrap().publish("t", messages(1)).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    let config = RedisSubscriberConfig::new("g").timeout(at_most);
    let error = RedisSubscriber::new(client, config).unwrap().subscribe("t").await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
}
