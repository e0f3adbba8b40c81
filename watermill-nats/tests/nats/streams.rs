//! Streams and consumers: made on demand, found, gone, and not what was expected.

use std::time::Duration;

use async_nats::jetstream::{consumer::pull, stream};
use futures::StreamExt as _;
use watermill_core::{
    Message, Publisher, Subscriber, Window,
    error::{NotAccepted, PublishErrorKind, SubscribeErrorKind},
};
use watermill_nats::{
    CoreNatsConfig, CoreNatsPublisher, CoreNatsSubscriber, NatsPublisherConfig, NatsSubscriberConfig,
    StartPosition,
};
use watermill_testkit::unique;

use crate::{client, in_time, messages, next, next_in_trouble, publisher, raw, subscriber};

#[tokio::test]
async fn a_stream_and_a_consumer_are_made_for_a_topic_that_has_none() {
    let topic = format!("{}.placed", unique("orders"));
    let publisher = publisher(NatsPublisherConfig::default()).await;
    publisher.publish(&topic, messages(1)).await.unwrap();
    let subscriber = subscriber(NatsSubscriberConfig::new("billing")).await;
    next(&mut subscriber.subscribe(&topic).await.unwrap()).await.ack_confirmed().await.unwrap();
    let name = topic.replace('.', "_");
    let stream = raw().await.get_stream(&name).await.unwrap();
    assert_eq!(stream.cached_info().config.subjects, [topic.as_str()]);
    let consumer = stream.consumer_info(format!("watermill__billing__{name}")).await.unwrap();
    assert_eq!((consumer.ack_floor.stream_sequence, consumer.config.filter_subject), (1, topic));
}

#[tokio::test]
async fn a_stream_that_has_the_topic_among_others_is_used_and_wildcards_read_several() {
    let name = unique("shop");
    let subjects = vec![format!("{name}.>")];
    raw()
        .await
        .create_stream(stream::Config { name: name.clone(), subjects, ..Default::default() })
        .await
        .unwrap();
    let publisher = publisher(NatsPublisherConfig::default().existing_streams()).await;
    for topic in ["placed", "paid"] {
        publisher.publish(&format!("{name}.{topic}"), vec![Message::with_id(topic, "x")]).await.unwrap();
    }
    let subscriber = subscriber(NatsSubscriberConfig::new("g").existing_streams()).await;
    let mut one = subscriber.subscribe(&format!("{name}.paid")).await.unwrap();
    let mut all = subscriber.subscribe(&format!("{name}.*")).await.unwrap();
    assert_eq!(next(&mut one).await.id(), "paid");
    let mut ids = Vec::new();
    for _ in 0..2 {
        let delivery = next(&mut all).await;
        ids.push(delivery.id().to_string());
        delivery.ack();
    }
    assert_eq!(ids, ["placed", "paid"]);
}

#[tokio::test]
async fn without_a_stream_that_may_be_made_the_topic_is_an_error_that_says_what_to_do() {
    let topic = unique("topic");
    let publisher = publisher(NatsPublisherConfig::default().existing_streams()).await;
    let error = publisher.publish(&topic, messages(2)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.not_accepted()),
        (PublishErrorKind::Topic, &NotAccepted::All),
        "{error:?}"
    );
    assert!(error.to_string().contains("create one with this subject"), "{error}");
    let subscriber = subscriber(NatsSubscriberConfig::new("g").existing_streams()).await;
    assert_eq!(subscriber.subscribe(&topic).await.unwrap_err().kind(), SubscribeErrorKind::Topic);
}

#[tokio::test]
async fn the_server_stores_an_id_once_by_option() {
    let topic = unique("topic");
    let publisher = publisher(NatsPublisherConfig::default().deduplicate(true)).await;
    for _ in 0..2 {
        publisher.publish(&topic, messages(3)).await.unwrap();
    }
    let mut stream = raw().await.get_stream(&topic).await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 3);
}

#[tokio::test]
async fn what_a_full_stream_refuses_is_said_message_by_message_and_no_later_one_of_the_key_is_stored() {
    let topic = unique("topic");
    let config = NatsPublisherConfig::default().streams(|topic| stream::Config {
        name: topic.to_owned(),
        subjects: vec![topic.to_owned()],
        max_message_size: 512,
        ..Default::default()
    });
    let publisher = publisher(config).await;
    let message =
        |id: &str, key: &str, bytes| Message::with_id(id, vec![b'x'; bytes]).with_key(key.to_owned());
    let call = vec![message("0", "a", 1), message("1", "b", 600), message("2", "a", 1), message("3", "b", 1)];
    let error = publisher.publish(&topic, call).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Message, "{error:?}");
    assert_eq!(error.not_accepted(), &NotAccepted::At(vec![1, 3]));
    let mut stream = raw().await.get_stream(&topic).await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 2);
}

#[tokio::test]
async fn a_stream_that_was_deleted_is_made_again_by_who_publishes_and_by_who_reads() {
    let topic = unique("topic");
    let publisher = publisher(NatsPublisherConfig::default()).await;
    let subscriber = subscriber(NatsSubscriberConfig::new("g").heartbeat(Duration::from_millis(100))).await;
    let mut subscription = subscriber.subscribe(&topic).await.unwrap();
    publisher.publish(&topic, messages(1)).await.unwrap();
    let held = next(&mut subscription).await;
    raw().await.delete_stream(&topic).await.unwrap();
    // The first call finds that it is gone, unless who reads was faster.
    let published = async {
        while let Err(error) = publisher.publish(&topic, vec![Message::with_id("again", "x")]).await {
            assert!(error.is_retryable(), "{error:?}");
        }
    };
    in_time(published).await;
    assert_eq!(next_in_trouble(&mut subscription).await.id(), "again");
    assert!(held.is_lost());
    subscription.close().await.unwrap();
}

#[tokio::test]
async fn a_consumer_that_was_deleted_is_made_again_and_what_was_in_hand_is_lost_and_comes_again() {
    let topic = unique("topic");
    publisher(NatsPublisherConfig::default()).await.publish(&topic, messages(2)).await.unwrap();
    let subscriber = subscriber(NatsSubscriberConfig::new("g")).await;
    let mut subscription = subscriber.subscribe(&topic).await.unwrap();
    let held = next(&mut subscription).await;
    let stream = raw().await.get_stream(&topic).await.unwrap();
    stream.delete_consumer(&format!("watermill__g__{topic}")).await.unwrap();
    in_time(held.cancellation().cancelled()).await;
    assert!(held.is_lost());
    for id in ["0", "1"] {
        let delivery = next_in_trouble(&mut subscription).await;
        assert_eq!(delivery.id(), id);
        delivery.ack_confirmed().await.unwrap();
    }
    subscription.close().await.unwrap();
}

#[tokio::test]
async fn a_consumer_that_reads_something_else_is_an_error_that_names_it() {
    let topic = unique("topic");
    let publisher = publisher(NatsPublisherConfig::default()).await;
    publisher.publish(&topic, messages(1)).await.unwrap();
    let stream = raw().await.get_stream(&topic).await.unwrap();
    let others =
        pull::Config { durable_name: Some("ours".to_owned()), max_ack_pending: 5, ..Default::default() };
    stream.create_consumer(others).await.unwrap();
    // It reads all of the stream, which is the topic; only order needs more of it.
    let ours = || NatsSubscriberConfig::new("g").consumer(|_, _| "ours".to_owned());
    let mut subscription = subscriber(ours()).await.subscribe(&topic).await.unwrap();
    next(&mut subscription).await.ack();
    subscription.close().await.unwrap();
    let error = subscriber(ours().ordered(true)).await.subscribe(&topic).await.unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Refused, "{error:?}");
    assert!(error.to_string().contains("max_ack_pending"), "{error}");
}

#[tokio::test]
async fn a_new_group_can_begin_with_what_is_published_later() {
    let topic = unique("topic");
    let publisher = publisher(NatsPublisherConfig::default()).await;
    publisher.publish(&topic, vec![Message::with_id("before", "x")]).await.unwrap();
    let subscriber = subscriber(NatsSubscriberConfig::new("g").start(StartPosition::Latest)).await;
    let mut subscription = subscriber.subscribe(&topic).await.unwrap();
    publisher.publish(&topic, vec![Message::with_id("after", "x")]).await.unwrap();
    assert_eq!(next(&mut subscription).await.id(), "after");
    subscription.close().await.unwrap();
}

#[tokio::test]
async fn more_is_not_in_hand_than_the_window_and_what_is_fetched_ahead() {
    let topic = unique("topic");
    publisher(NatsPublisherConfig::default()).await.publish(&topic, messages(100)).await.unwrap();
    let subscriber = subscriber(NatsSubscriberConfig::new("g").fetch_ahead(10)).await;
    let mut subscription = subscriber.subscribe(&topic).await.unwrap();
    subscription.set_window(Window::unordered(5.try_into().unwrap()));
    let held: Vec<_> = in_time(subscription.by_ref().take(5).collect()).await;
    let stream = raw().await.get_stream(&topic).await.unwrap();
    let info = stream.consumer_info(format!("watermill__g__{topic}")).await.unwrap();
    assert!((5..=15).contains(&info.num_ack_pending), "{}", info.num_ack_pending);
    drop(held);
    subscription.close().await.unwrap();
    let info = stream.consumer_info(format!("watermill__g__{topic}")).await.unwrap();
    assert_eq!(info.num_waiting, 0, "no request is left behind");
}

#[tokio::test]
async fn the_members_of_a_queue_group_share_what_is_published_and_who_has_closed_takes_nothing() {
    let topic = unique("topic");
    let config = CoreNatsConfig::default().queue_group("g");
    let publisher = CoreNatsPublisher::new(client().await, config.clone()).unwrap();
    let member = async || CoreNatsSubscriber::new(client().await, config.clone()).unwrap();
    let mut stays = member().await.subscribe(&topic).await.unwrap();
    let mut leaves = member().await.subscribe(&topic).await.unwrap();
    let mut other_group = member().await.in_group("h").unwrap().subscribe(&topic).await.unwrap();
    publisher.publish(&topic, messages(1)).await.unwrap();
    let taken = tokio::select! {
        delivery = next(&mut stays) => delivery,
        delivery = next(&mut leaves) => delivery,
    };
    assert_eq!((taken.id(), next(&mut other_group).await.id()), (taken.id(), taken.id()));
    taken.ack();
    leaves.close().await.unwrap();
    publisher.publish(&topic, messages(20)).await.unwrap();
    for id in 0..20 {
        let delivery = next(&mut stays).await;
        assert_eq!(delivery.id().as_str(), id.to_string());
        delivery.ack();
    }
    assert!(
        CoreNatsSubscriber::new(client().await, CoreNatsConfig::default()).unwrap().in_group("g").is_err()
    );
}
