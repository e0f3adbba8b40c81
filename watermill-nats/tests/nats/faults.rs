//! Servers that freeze, crash and are silent, and what a subscription says of it.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use tokio::net::TcpListener;
use watermill_core::{
    Backoff, Message, Publisher, Subscriber,
    error::{PublishErrorKind, SubscribeErrorKind},
    subscription::Health,
};
use watermill_nats::{
    CoreNatsConfig, CoreNatsPublisher, CoreNatsSubscriber, NatsPublisher, NatsPublisherConfig,
    NatsSubscriber, NatsSubscriberConfig,
};
use watermill_testkit::{PrivateServer, Service};

use crate::{eventually, in_time, messages, next, next_in_trouble};

const AT_MOST: Duration = Duration::from_millis(500);

fn quick() -> NatsSubscriberConfig {
    NatsSubscriberConfig::new("g")
        .ack_wait(Duration::from_secs(2))
        .heartbeat(Duration::from_millis(100))
        .retry(Backoff::constant(Duration::from_millis(50)))
        .timeout(AT_MOST)
}

async fn blocking(work: impl FnOnce() + Send + 'static) {
    tokio::task::spawn_blocking(work).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_is_noticed_nobody_waits_for_ever_and_nothing_is_lost() {
    let server = Arc::new(PrivateServer::start(Service::NATS));
    let client = async_nats::connect(server.url()).await.unwrap();
    let publisher =
        NatsPublisher::new(client.clone(), NatsPublisherConfig::default().timeout(AT_MOST)).unwrap();
    publisher.publish("t", messages(3)).await.unwrap();
    let subscriber = NatsSubscriber::new(client, quick()).unwrap();
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    let held = next(&mut subscription).await;

    let frozen = server.clone();
    blocking(move || frozen.freeze()).await;
    eventually("the status says so", || matches!(subscription.status().health, Health::Degraded { .. }))
        .await;
    let error = in_time(publisher.publish("t", messages(100))).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    // Nobody could say that it is still worked on.
    in_time(held.cancellation().cancelled()).await;
    assert!(held.is_lost());
    let error = loop {
        if let Err(error) = in_time(subscription.next()).await.unwrap() {
            break error;
        }
    };
    assert_eq!(error.kind(), SubscribeErrorKind::Unavailable, "{error:?}");

    let thawed = server.clone();
    blocking(move || thawed.thaw()).await;
    let mut left: Vec<_> = ["0", "1", "2"].map(str::to_owned).to_vec();
    while !left.is_empty() {
        let delivery = next_in_trouble(&mut subscription).await;
        left.retain(|id| *id != delivery.id().as_str());
        delivery.ack();
    }
    eventually("it is well again", || subscription.status().health == Health::Healthy).await;
    subscription.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_server_is_away_nothing_is_queued_and_later_everything_goes_on() {
    let server = Arc::new(PrivateServer::start(Service::NATS));
    let client = async_nats::connect(server.url()).await.unwrap();
    let publisher = NatsPublisher::new(client.clone(), NatsPublisherConfig::default()).unwrap();
    let subscriber = NatsSubscriber::new(client.clone(), quick()).unwrap();
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    let killed = server.clone();
    blocking(move || killed.kill()).await;
    eventually("the client notices", || {
        client.connection_state() != async_nats::connection::State::Connected
    })
    .await;
    let error = publisher.publish("t", messages(1)).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Unavailable, "{error:?}");
    eventually("the status says so", || matches!(subscription.status().health, Health::Degraded { .. }))
        .await;

    let started = server.clone();
    blocking(move || started.start_again()).await;
    let published = async {
        while publisher.publish("t", vec![Message::with_id("later", "x")]).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    in_time(published).await;
    let delivery = next_in_trouble(&mut subscription).await;
    assert_eq!(delivery.id(), "later");
    delivery.ack_confirmed().await.unwrap();
    subscription.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn core_nats_says_that_messages_may_have_been_missed() {
    let server = Arc::new(PrivateServer::start(Service::NATS));
    let client = async_nats::connect(server.url()).await.unwrap();
    let subscriber = CoreNatsSubscriber::new(client.clone(), CoreNatsConfig::default()).unwrap();
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    let restarted = server.clone();
    blocking(move || {
        restarted.kill();
        restarted.start_again();
    })
    .await;
    let missed = async {
        loop {
            let error = subscription.next().await.unwrap().unwrap_err();
            if error.kind() == SubscribeErrorKind::Missed {
                return error;
            }
        }
    };
    assert!(in_time(missed).await.is_retryable());
    let publisher = CoreNatsPublisher::new(client, CoreNatsConfig::default()).unwrap();
    publisher.publish("t", messages(1)).await.unwrap();
    assert_eq!(next_in_trouble(&mut subscription).await.id(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn core_nats_says_that_messages_came_faster_than_they_were_taken() {
    let topic = watermill_testkit::unique("t");
    let client = async_nats::connect(Service::NATS.url()).await.unwrap();
    let config = CoreNatsConfig::default().buffer(10);
    let subscriber = CoreNatsSubscriber::new(client.clone(), config).unwrap();
    let mut subscription = subscriber.subscribe(&topic).await.unwrap();
    let publisher = CoreNatsPublisher::new(client, CoreNatsConfig::default()).unwrap();
    publisher.publish(&topic, messages(1_000)).await.unwrap();
    let mut taken = 0;
    let missed = loop {
        match in_time(subscription.next()).await.unwrap() {
            Ok(delivery) => {
                taken += 1;
                delivery.ack();
            }
            Err(error) => break error,
        }
    };
    assert_eq!(missed.kind(), SubscribeErrorKind::Missed, "{missed:?}");
    assert!(missed.to_string().contains("dropped") && taken < 1_000, "{missed} after {taken}");
    subscription.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_to_core_nats_whose_connection_was_lost_is_not_said_to_have_arrived() {
    let server = Arc::new(PrivateServer::start(Service::NATS));
    let client = async_nats::connect(server.url()).await.unwrap();
    let publisher = CoreNatsPublisher::new(client.clone(), CoreNatsConfig::default()).unwrap();
    publisher.publish("t", messages(1)).await.unwrap();
    let frozen = server.clone();
    blocking(move || frozen.freeze()).await;
    let call = publisher.publish("t", messages(1));
    let crash = async {
        let server = server.clone();
        blocking(move || {
            server.kill();
            server.start_again();
        })
        .await;
    };
    // It was sent to a server that has not read it, and another one answers.
    let (called, ()) = in_time(futures::future::join(call, crash)).await;
    let error = called.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    let published = async { while publisher.publish("t", messages(1)).await.is_err() {} };
    in_time(published).await;
}

#[tokio::test]
async fn the_status_says_how_many_messages_the_group_has_not_settled() {
    let topic = watermill_testkit::unique("t");
    let client = async_nats::connect(Service::NATS.url()).await.unwrap();
    let publisher = NatsPublisher::new(client.clone(), NatsPublisherConfig::default()).unwrap();
    publisher.publish(&topic, messages(500)).await.unwrap();
    let subscriber = NatsSubscriber::new(client, NatsSubscriberConfig::new("g")).unwrap();
    let mut subscription = subscriber.subscribe(&topic).await.unwrap();
    let _held = next(&mut subscription).await;
    eventually("the group's lag", || subscription.status().lag == Some(500)).await;
    subscription.close().await.unwrap();
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_not_waited_for_for_ever() {
    // It greets, and answers to the first ping; then it is silent.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", silent.local_addr().unwrap());
    let greeting = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut connection, _) = silent.accept().await.unwrap();
        let info =
            r#"INFO {"server_id":"s","version":"2.9.0","headers":true,"max_payload":1048576,"proto":1}"#;
        connection.write_all(format!("{info}\r\n").as_bytes()).await.unwrap();
        let mut said = [0; 4096];
        assert!(connection.read(&mut said).await.unwrap() > 0);
        connection.write_all(b"PONG\r\n").await.unwrap();
        connection
    });
    let client = async_nats::connect(url).await.unwrap();
    let _connection = greeting.await.unwrap();
    let publisher =
        NatsPublisher::new(client.clone(), NatsPublisherConfig::default().timeout(AT_MOST)).unwrap();
    let error = in_time(publisher.publish("t", messages(1))).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    let subscriber = NatsSubscriber::new(client.clone(), quick()).unwrap();
    let error = in_time(subscriber.subscribe("t")).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    let core = CoreNatsPublisher::new(client, CoreNatsConfig::default().timeout(AT_MOST)).unwrap();
    assert_eq!(in_time(core.publish("t", messages(1))).await.unwrap_err().kind(), PublishErrorKind::Timeout);
}
