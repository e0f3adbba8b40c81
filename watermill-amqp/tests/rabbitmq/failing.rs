//! What the server refuses, and what it ends.

use std::{net::TcpListener, time::Duration};

use futures::{StreamExt as _, future::join_all};
use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use tokio::time::timeout;
use watermill_amqp::{
    AmqpPublisher, AmqpPublisherConfig, AmqpSubscriber, AmqpSubscriberConfig, Exchange, Queue, Topology,
};
use watermill_core::{
    Backoff, Message, Publisher, PublisherExt as _, Subscriber,
    error::{NotAccepted, PublishErrorKind, SettleErrorKind, SubscribeErrorKind},
};
use watermill_testkit::{Service, patience, unique};

use crate::{messages, next, publisher, publishing, raw, reading, subscriber};

#[tokio::test]
async fn what_no_queue_takes_is_an_error_unless_nobody_need_listen() {
    let (lonely, heard) = (unique("topic"), unique("topic"));
    let mut subscription = subscriber(Topology::pub_sub()).subscribe(&heard).await.unwrap();
    let writer = publisher(Topology::pub_sub());
    // Side by side: each call is told of its own.
    let calls = (0..50).map(|n| {
        let (topic, writer) = (if n % 2 == 0 { &lonely } else { &heard }, &writer);
        async move { writer.publish(topic, vec![Message::with_id(n.to_string(), "x")]).await }
    });
    for (n, outcome) in join_all(calls).await.into_iter().enumerate() {
        match outcome {
            Ok(()) => assert_eq!(n % 2, 1, "call {n} was taken by no queue"),
            Err(error) => {
                assert_eq!((error.kind(), n % 2), (PublishErrorKind::Topic, 0), "{error:?}");
                assert!(error.to_string().contains("no queue takes it"), "{error}");
            }
        }
    }
    for n in (1..50).step_by(2) {
        let delivery = next(&mut subscription).await;
        assert_eq!(delivery.id(), &*n.to_string());
        delivery.ack();
    }
    subscription.close().await.unwrap();
    let careless = AmqpPublisher::new(publishing(Topology::pub_sub()).mandatory(false)).unwrap();
    careless.publish(&lonely, messages(3)).await.unwrap();
}

#[tokio::test]
async fn the_same_message_to_two_topics_is_told_apart_where_one_of_them_has_no_queue() {
    let (lonely, heard) = (unique("topic"), unique("topic"));
    subscriber(Topology::pub_sub()).initialize(&heard).await.unwrap();
    let writer = publisher(Topology::pub_sub());
    let message = || vec![Message::with_id("same", "x")];
    let _ = writer.publish(&lonely, message()).await;
    for _ in 0..20 {
        let (one, two) =
            futures::join!(writer.publish(&heard, message()), writer.publish(&lonely, message()));
        one.unwrap();
        assert_eq!(two.unwrap_err().kind(), PublishErrorKind::Topic);
    }
}

#[tokio::test]
async fn an_exchange_that_has_gone_is_made_again_and_fails_nobody_for_good() {
    let (gone, other) = (unique("topic"), unique("topic"));
    let reader = subscriber(Topology::pub_sub());
    let writer = publisher(Topology::pub_sub());
    for topic in [&gone, &other] {
        reader.initialize(topic).await.unwrap();
        writer.publish(topic, messages(1)).await.unwrap();
    }
    let (_native, channel) = raw().await;
    channel.exchange_delete(gone.as_str().into(), ExchangeDeleteOptions::default()).await.unwrap();
    let calls = (0..20).map(|n| writer.publish(if n % 2 == 0 { &gone } else { &other }, messages(1)));
    for outcome in join_all(calls).await {
        assert!(outcome.is_ok() || outcome.as_ref().is_err_and(|error| error.is_retryable()), "{outcome:?}");
    }
    reader.initialize(&gone).await.unwrap();
    writer.publish(&gone, messages(1)).await.unwrap();
}

#[tokio::test]
async fn a_queue_that_is_full_refuses_each_message_for_itself() {
    let topic = unique("topic");
    let topology = Topology::queue().queue_of(|topic, _| Queue::new(topic).length_max(2));
    subscriber(topology.clone()).initialize(&topic).await.unwrap();
    let error = publisher(topology).publish(&topic, messages(5)).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    // The server is exact when it has time; it never refuses the first.
    let NotAccepted::At(positions) = error.not_accepted() else { panic!("{error:?}") };
    assert!(!positions.is_empty() && !positions.contains(&0) && positions.contains(&4), "{positions:?}");
}

#[tokio::test]
async fn an_exchange_or_a_queue_of_another_kind_is_refused_and_ends_nobody_elses_call() {
    let (topic, other) = (unique("topic"), unique("topic"));
    let reader = subscriber(Topology::pub_sub());
    for topic in [&topic, &other] {
        reader.initialize(topic).await.unwrap();
    }
    let theirs = topic.clone();
    let topology = Topology::pub_sub()
        .exchange(
            move |topic| if topic == theirs { Exchange::direct(topic) } else { Exchange::fanout(topic) },
        )
        .quorum();
    let writer = publisher(topology.clone());
    let calls = (0..20).map(|n| {
        let (topic, writer) = (if n % 2 == 0 { &topic } else { &other }, &writer);
        async move { writer.publish(topic, messages(1)).await }
    });
    for (n, outcome) in join_all(calls).await.into_iter().enumerate() {
        match outcome {
            Ok(()) => assert_eq!(n % 2, 1),
            Err(error) => assert_eq!((error.kind(), n % 2), (PublishErrorKind::Refused, 0), "{error:?}"),
        }
    }
    let error = subscriber(topology).subscribe(&other).await.unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Refused, "{error:?}");
}

#[tokio::test]
async fn what_is_to_be_there_and_is_not_is_an_error_of_the_topic() {
    let topic = unique("topic");
    let topology = Topology::pub_sub().declares(false);
    let error = publisher(topology.clone()).publish(&topic, messages(1)).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Topic, "{error:?}");
    let error = subscriber(topology).subscribe(&topic).await.unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Topic, "{error:?}");
}

#[tokio::test]
async fn metadata_that_no_frame_holds_are_refused_before_the_connection_is_ended_for_them() {
    let topic = unique("topic");
    let mut subscription = subscriber(Topology::queue()).subscribe(&topic).await.unwrap();
    let writer = publisher(Topology::queue());
    let huge = Message::with_id("huge", "x").with_metadata("a", "b".repeat(200_000));
    let error = writer.publish(&topic, vec![Message::with_id("beside", "x"), huge]).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Message, "{error:?}");
    let large = Message::with_id("large", vec![7; 1 << 20]).with_metadata("a", "b".repeat(130_000));
    writer.publish(&topic, vec![large.clone()]).await.unwrap();
    let delivery = next(&mut subscription).await;
    assert_eq!(delivery.message().clone().without_context(), large);
    delivery.ack();
    subscription.close().await.unwrap();
}

#[tokio::test]
async fn a_queue_that_is_deleted_is_made_again_and_what_came_from_it_is_lost() {
    let topic = unique("topic");
    let config = reading(Topology::queue()).retry(Backoff::constant(Duration::from_millis(10)));
    let subscriber = AmqpSubscriber::new(config).unwrap();
    let mut subscription = subscriber.subscribe(&topic).await.unwrap();
    let writer = publisher(Topology::queue());
    writer.publish(&topic, messages(1)).await.unwrap();
    let held = next(&mut subscription).await;
    let (_native, channel) = raw().await;
    channel.queue_delete(topic.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    let error = timeout(patience(), subscription.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Refused, "{error:?}");
    assert!(held.info().is_lost());
    assert_eq!(held.ack_confirmed().await.unwrap_err().kind(), SettleErrorKind::Lost);
    let published = async {
        while writer.publish_one(&topic, Message::with_id("again", "x")).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(patience(), published).await.unwrap();
    assert_eq!(next(&mut subscription).await.id(), "again");
    subscription.close().await.unwrap();
}

#[tokio::test]
async fn who_may_not_log_in_or_names_no_virtual_host_is_told_so_for_good() {
    let url = Service::RABBITMQ.url();
    for wrong in [url.replace("guest:guest", "guest:wrong"), url.replace("%2f", "nowhere")] {
        let config = AmqpSubscriberConfig::new(&wrong, Topology::queue());
        let error = AmqpSubscriber::new(config).unwrap().subscribe("t").await.unwrap_err();
        assert!(!error.is_retryable(), "{error:?}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_not_waited_for_for_ever() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("amqp://{}/%2f", silent.local_addr().unwrap());
    let at_most = Duration::from_millis(50);
    let config = AmqpPublisherConfig::new(&url, Topology::queue()).timeout(at_most);
    let error = AmqpPublisher::new(config).unwrap().publish("t", messages(1)).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    let config = AmqpSubscriberConfig::new(&url, Topology::queue()).timeout(at_most);
    let error = AmqpSubscriber::new(config).unwrap().subscribe("t").await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
}
