//! What a subscription says of messages that it may have missed.

use std::{sync::Arc, time::Duration};

use redis::{Client, cmd};
use watermill_core::{
    Backoff, Message, Publisher as _, Subscriber as _, Subscription, error::SubscribeErrorKind,
    subscription::Health,
};
use watermill_redis::RedisPubSubSubscriberConfig;
use watermill_testkit::{PrivateServer, Service, unique};

use crate::{client, item, listener, publisher};

fn quick() -> RedisPubSubSubscriberConfig {
    RedisPubSubSubscriberConfig::default().retry(Backoff::constant(Duration::from_millis(50)))
}

/// Waits until the stream says that messages were missed; what it says before is that the server is away.
async fn missed(subscription: &mut Subscription) -> String {
    loop {
        let error = item(subscription).await.expect_err("nothing was published");
        match error.kind() {
            SubscribeErrorKind::Unavailable => {}
            SubscribeErrorKind::Missed => return error.to_string(),
            _ => panic!("{error}"),
        }
    }
}

/// What is published when the stream has said so comes.
async fn comes(subscription: &mut Subscription, client: &Client, topic: &str) {
    publisher(client).publish(topic, vec![Message::with_id("after", "")]).await.unwrap();
    assert_eq!(item(subscription).await.unwrap().id(), "after");
    assert_eq!(subscription.status().health, Health::Healthy);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_cut_a_server_that_crashed_and_one_that_was_frozen_are_told_of_when_messages_come_again()
 {
    let server = Arc::new(PrivateServer::start(Service::REDIS));
    let client = Client::open(server.url()).unwrap();
    let config = quick().ping_interval(Duration::from_millis(100)).timeout(Duration::from_millis(500));
    let mut subscription = listener(&client, config).subscribe("t").await.unwrap();
    comes(&mut subscription, &client, "t").await;

    let mut raw = client.get_multiplexed_async_connection().await.unwrap();
    let _: usize = cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub").query_async(&mut raw).await.unwrap();
    assert!(missed(&mut subscription).await.contains("the connection was lost"));
    comes(&mut subscription, &client, "t").await;

    on(&server, |server| server.kill()).await;
    let away = item(&mut subscription).await.unwrap_err();
    assert_eq!(away.kind(), SubscribeErrorKind::Unavailable, "{away}");
    assert!(matches!(subscription.status().health, Health::Degraded { .. }));
    on(&server, |server| server.start_again()).await;
    missed(&mut subscription).await;
    comes(&mut subscription, &client, "t").await;

    on(&server, |server| server.freeze()).await;
    let away = item(&mut subscription).await.unwrap_err();
    assert!(away.to_string().contains("does not answer"), "{away}");
    on(&server, |server| server.thaw()).await;
    missed(&mut subscription).await;
    comes(&mut subscription, &client, "t").await;
    subscription.close().await.unwrap();
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_told_how_many_were_dropped_and_gets_the_next() {
    const MESSAGES: usize = 50;
    let topic = unique("topic");
    let mut subscription = listener(&client(), quick().buffer(10)).subscribe(&topic).await.unwrap();
    let messages = (0..MESSAGES).map(|n| Message::with_id(n.to_string(), "")).collect();
    publisher(&client()).publish(&topic, messages).await.unwrap();
    let (mut received, mut dropped) = (Vec::new(), 0);
    while received.len() + dropped < MESSAGES {
        match item(&mut subscription).await {
            Ok(delivery) => received.push(delivery.id().to_string()),
            Err(error) => {
                assert_eq!(error.kind(), SubscribeErrorKind::Missed);
                let said = error.to_string();
                let number = said.split(' ').find_map(|word| word.parse::<usize>().ok());
                dropped += number.expect("it says how many");
            }
        }
    }
    assert!(dropped > 0 && received.len() >= 10, "{dropped} were dropped, {received:?} came");
    assert!(received.is_sorted_by_key(|id| id.parse::<usize>().unwrap()), "{received:?}");
    comes(&mut subscription, &client(), &topic).await;
    subscription.close().await.unwrap();
}

async fn on(server: &Arc<PrivateServer>, act: fn(&PrivateServer)) {
    let server = server.clone();
    tokio::task::spawn_blocking(move || act(&server)).await.expect("it does as it is told");
}
