//! Topologies, and what queues do with messages that are nacked, rejected or given back.

use std::{num::NonZeroUsize, time::Duration};

use futures::StreamExt as _;
use lapin::{
    BasicProperties,
    options::{BasicPublishOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::time::timeout;
use watermill_amqp::{AmqpSubscriber, Exchange, NackDelays, Queue, Topology};
use watermill_core::{
    Message, Publisher, PublisherExt as _, Subscriber, Window,
    error::{PublishErrorKind, SubscribeErrorKind},
};
use watermill_testkit::{patience, unique};

use crate::{messages, next, publisher, raw, reading, subscriber};

#[tokio::test]
async fn topics_may_share_an_exchange_and_be_bound_by_patterns() {
    let (events, run) = (unique("events"), unique("run"));
    let topology = Topology::pub_sub()
        .exchange(move |_| Exchange::topic(&events))
        .routing_key(str::to_owned)
        .binding_keys(|topic| vec![topic.to_owned()])
        .queue_of(move |topic, _| Queue::new(format!("{topic}_{run}")));
    let subscriber = subscriber(topology.clone());
    let mut all = subscriber.subscribe("orders.*").await.unwrap();
    let mut paid = subscriber.subscribe("orders.paid").await.unwrap();
    let publisher = publisher(topology);
    publisher.publish_one("orders.placed", Message::with_id("1", "x")).await.unwrap();
    publisher.publish_one("orders.paid", Message::with_id("2", "x")).await.unwrap();
    for id in ["1", "2"] {
        let delivery = next(&mut all).await;
        assert_eq!(delivery.id(), id);
        delivery.ack();
    }
    let delivery = next(&mut paid).await;
    assert_eq!(delivery.id(), "2");
    delivery.ack();
    subscriber.close().await.unwrap();
}

#[tokio::test]
async fn an_exchange_that_the_server_has_by_itself_is_written_to_and_read_from() {
    let run = unique("run");
    let topology = Topology::pub_sub()
        .exchange(|_| Exchange::topic("amq.topic"))
        .routing_key(str::to_owned)
        .binding_keys(|topic| vec![topic.to_owned()])
        .queue_of(move |topic, _| Queue::new(format!("{topic}_{run}")).auto_delete(true));
    let topic = unique("orders");
    let subscriber = subscriber(topology.clone());
    let mut subscription = subscriber.subscribe(&topic).await.unwrap();
    publisher(topology).publish(&topic, messages(1)).await.unwrap();
    next(&mut subscription).await.ack();
    subscription.close().await.unwrap();
}

#[tokio::test]
async fn all_consumers_of_a_durable_queue_share_it_and_there_are_no_groups() {
    let topic = unique("topic");
    let (one, two) = (subscriber(Topology::queue()), subscriber(Topology::queue()));
    one.initialize(&topic).await.unwrap();
    publisher(Topology::queue()).publish(&topic, messages(2)).await.unwrap();
    let mut subscription = one.subscribe(&topic).await.unwrap();
    next(&mut subscription).await.ack_confirmed().await.unwrap();
    subscription.close().await.unwrap();
    let mut subscription = two.subscribe(&topic).await.unwrap();
    assert_eq!(next(&mut subscription).await.id(), "1");
    subscription.close().await.unwrap();
    let Err(error) = one.in_group("billing") else { panic!("there are no groups") };
    assert_eq!(error.kind(), SubscribeErrorKind::Unsupported);
}

#[tokio::test]
async fn a_quorum_queue_counts_what_was_given_back() {
    let topic = unique("topic");
    let topology = Topology::queue().quorum();
    let reader = subscriber(topology.clone());
    reader.initialize(&topic).await.unwrap();
    publisher(topology.clone()).publish(&topic, messages(1)).await.unwrap();
    for attempt in 1..=3 {
        let subscriber = subscriber(topology.clone());
        let mut subscription = subscriber.subscribe(&topic).await.unwrap();
        let delivery = next(&mut subscription).await;
        assert_eq!((delivery.info().attempt(), delivery.info().redelivered()), (attempt, attempt > 1));
        drop(delivery);
        // Nacked, it is handed out again by this subscription, and closing gives it back.
        subscriber.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_rejected_goes_to_the_dead_letters_and_says_why_it_came() {
    let topic = unique("topic");
    let topology = Topology::pub_sub().dead_letters(|topic, group| {
        (!topic.ends_with(".dead")).then(|| format!("{topic}.{}.dead", group.unwrap()))
    });
    let billing = AmqpSubscriber::new(reading(topology.clone()).group("billing")).unwrap();
    let mut subscription = billing.subscribe(&topic).await.unwrap();
    let message = Message::with_id("1", "x").with_metadata("a", "b");
    publisher(topology).publish(&topic, vec![message.clone()]).await.unwrap();
    next(&mut subscription).await.reject("it is poison");
    let mut dead = billing.subscribe(&format!("{topic}.billing.dead")).await.unwrap();
    let delivery = next(&mut dead).await;
    assert_eq!(delivery.message().clone().without_context(), message);
    delivery.ack();
    billing.close().await.unwrap();
}

#[tokio::test]
async fn a_nacked_message_may_wait_at_the_server_where_it_holds_nobody_up() {
    let topic = unique("topic");
    let config = reading(Topology::queue()).nack_delays(NackDelays::InQueues);
    let subscriber = AmqpSubscriber::new(config).unwrap();
    let mut subscription = subscriber.subscribe(&topic).await.unwrap();
    let message = Message::with_id("0", "x").with_key("k").with_metadata("a", "b");
    publisher(Topology::queue())
        .publish(&topic, vec![message.clone(), Message::with_id("1", "x")])
        .await
        .unwrap();
    for attempt in 1..=2 {
        let delivery = next(&mut subscription).await;
        assert_eq!((delivery.id().as_str(), delivery.info().attempt()), ("0", attempt));
        delivery.nack_after(Duration::from_millis(200));
        if attempt == 1 {
            let other = next(&mut subscription).await;
            assert_eq!(other.id(), "1", "the first waits elsewhere");
            other.ack();
        }
    }
    let delivery = next(&mut subscription).await;
    assert_eq!(delivery.info().attempt(), 3);
    assert_eq!(delivery.message().clone().without_context(), message);
    delivery.ack_confirmed().await.unwrap();
    subscriber.close().await.unwrap();
    let (_native, channel) = raw().await;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let waiting = format!("{topic}_delay_200");
    let queue = channel.queue_declare(waiting.as_str().into(), passive, FieldTable::default()).await.unwrap();
    assert_eq!(queue.message_count(), 0, "it has waited there");
}

#[tokio::test]
async fn what_a_quorum_queue_has_waits_in_a_quorum_queue() {
    let topic = unique("topic");
    let topology = Topology::queue().quorum();
    let config = reading(topology.clone()).nack_delays(NackDelays::InQueues);
    let subscriber = AmqpSubscriber::new(config).unwrap();
    let mut subscription = subscriber.subscribe(&topic).await.unwrap();
    publisher(topology).publish(&topic, messages(1)).await.unwrap();
    next(&mut subscription).await.nack_after(Duration::from_millis(100));
    let delivery = next(&mut subscription).await;
    assert_eq!((delivery.id().as_str(), delivery.info().attempt()), ("0", 2));
    delivery.ack();
    subscriber.close().await.unwrap();
    let (_native, channel) = raw().await;
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let waiting = format!("{topic}_delay_100");
    let mut arguments = FieldTable::default();
    let text = |text: &str| AMQPValue::LongString(text.into());
    for (name, value) in [
        ("x-message-ttl", AMQPValue::LongLongInt(100)),
        ("x-expires", AMQPValue::LongLongInt(60_100)),
        ("x-overflow", text("reject-publish")),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text(&topic)),
        ("x-queue-type", text("classic")),
    ] {
        arguments.insert(name.into(), value);
    }
    let refused = channel.queue_declare(waiting.as_str().into(), durable, arguments).await.unwrap_err();
    assert!(refused.to_string().contains("current is 'quorum'"), "{refused}");
}

#[tokio::test]
async fn what_is_too_large_to_wait_at_the_server_waits_in_hand_and_ends_no_connection() {
    let topic = unique("topic");
    let config = reading(Topology::queue()).nack_delays(NackDelays::InQueues);
    let subscriber = AmqpSubscriber::new(config).unwrap();
    let mut subscription = subscriber.subscribe(&topic).await.unwrap();
    // With the id's entry, that of the value and the frame's own bytes it is 128 KiB, and the server would add to it.
    let full = Message::with_id("1", "x").with_metadata("a", "b".repeat(131_008));
    let writer = publisher(Topology::queue());
    writer.publish(&topic, vec![full.clone().with_metadata("a", "b".repeat(131_009))]).await.unwrap_err();
    writer.publish(&topic, vec![full.clone()]).await.unwrap();
    next(&mut subscription).await.nack_after(Duration::from_millis(100));
    let delivery = next(&mut subscription).await;
    assert_eq!(delivery.message().clone().without_context(), full);
    delivery.ack_confirmed().await.unwrap();
    subscriber.close().await.unwrap();
}

#[tokio::test]
async fn metadata_leave_room_for_what_the_server_adds_to_a_dead_letter() {
    let topic = unique("topic");
    let topology = Topology::queue()
        .dead_letters(|topic, _| (!topic.ends_with(".dead")).then(|| format!("{topic}.dead")));
    let subscriber = subscriber(topology.clone());
    let mut subscription = subscriber.subscribe(&topic).await.unwrap();
    let writer = publisher(topology);
    let with = |bytes| Message::with_id("1", "x").with_metadata("a", "b".repeat(bytes));
    let error = writer.publish(&topic, vec![with(128_961)]).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Message, "{error:?}");
    writer.publish(&topic, vec![with(128_960)]).await.unwrap();
    next(&mut subscription).await.reject("it is poison");
    let mut dead = subscriber.subscribe(&format!("{topic}.dead")).await.unwrap();
    let delivery = next(&mut dead).await;
    assert_eq!(delivery.message().clone().without_context(), with(128_960));
    delivery.ack();
    subscriber.close().await.unwrap();
}

#[tokio::test]
async fn a_window_that_grows_lets_out_more_than_the_server_would_send_at_first() {
    let topic = unique("topic");
    let subscriber = AmqpSubscriber::new(reading(Topology::queue()).fetch_ahead(0)).unwrap();
    let mut subscription = subscriber.subscribe(&topic).await.unwrap();
    publisher(Topology::queue()).publish(&topic, messages(500)).await.unwrap();
    let first = next(&mut subscription).await;
    subscription.set_window(Window::unordered(NonZeroUsize::new(500).unwrap()));
    let mut held = vec![first];
    while held.len() < 500 {
        held.push(next(&mut subscription).await);
    }
    let ids: Vec<_> = held.iter().map(|delivery| delivery.id().as_str().parse::<usize>().unwrap()).collect();
    assert!(ids.is_sorted(), "{ids:?}");
    // The odd ones first, so that few can be acked with one word.
    let (odd, even): (Vec<_>, Vec<_>) = held.into_iter().enumerate().partition(|(at, _)| at % 2 == 1);
    odd.into_iter().chain(even).for_each(|(_, delivery)| delivery.ack());
    subscription.close().await.unwrap();

    publisher(Topology::queue()).publish(&topic, vec![Message::with_id("last", "x")]).await.unwrap();
    let mut subscription = subscriber.subscribe(&topic).await.unwrap();
    assert_eq!(next(&mut subscription).await.id(), "last", "all were acked");
    subscription.close().await.unwrap();
}

#[tokio::test]
async fn what_was_sent_before_a_window_grew_is_followed_by_the_rest() {
    let topic = unique("topic");
    let reader = subscriber(Topology::queue());
    let mut subscription = reader.subscribe(&topic).await.unwrap();
    publisher(Topology::queue()).publish(&topic, messages(300)).await.unwrap();
    // What is acked makes room at the server, which sends as many more; they are not taken in yet.
    for _ in 0..20 {
        next(&mut subscription).await.ack_confirmed().await.unwrap();
    }
    subscription.set_window(Window::unordered(NonZeroUsize::new(280).unwrap()));
    for expected in 20..300 {
        let delivery = next(&mut subscription).await;
        assert_eq!(delivery.id(), &*expected.to_string());
        delivery.ack();
    }
    subscription.close().await.unwrap();
}

#[tokio::test]
async fn a_nack_with_a_delay_at_the_server_is_no_attempt_for_what_is_behind_it() {
    let topic = unique("topic");
    let topology = Topology::queue().quorum();
    let config = reading(topology.clone()).nack_delays(NackDelays::InQueues);
    let reader = AmqpSubscriber::new(config).unwrap();
    let mut subscription = reader.subscribe(&topic).await.unwrap();
    publisher(topology).publish(&topic, messages(5)).await.unwrap();
    next(&mut subscription).await.nack_after(Duration::from_secs(60));
    for expected in 1..5 {
        let delivery = next(&mut subscription).await;
        assert_eq!((delivery.id().as_str(), delivery.info().attempt()), (&*expected.to_string(), 1));
        delivery.ack();
    }
    subscription.close().await.unwrap();
}

#[tokio::test]
async fn a_queue_that_goes_with_its_last_consumer_stays_while_a_window_grows() {
    let topic = unique("topic");
    let topology = Topology::queue().queue_of(|topic, _| Queue::new(topic).auto_delete(true));
    let reader = subscriber(topology.clone());
    let mut subscription = reader.subscribe(&topic).await.unwrap();
    subscription.set_window(Window::unordered(NonZeroUsize::new(300).unwrap()));
    publisher(topology).publish(&topic, messages(500)).await.unwrap();
    for expected in 0..500 {
        let delivery = next(&mut subscription).await;
        assert_eq!(delivery.id(), &*expected.to_string());
        delivery.ack();
    }
    subscription.close().await.unwrap();
}

#[tokio::test]
async fn what_is_no_message_holds_nothing_up_however_many_there_are() {
    const BAD: usize = 300;
    let topic = unique("topic");
    let reader = subscriber(Topology::queue());
    let mut subscription = reader.subscribe(&topic).await.unwrap();
    let (_native, channel) = raw().await;
    let mut headers = FieldTable::default();
    headers.insert("a".into(), AMQPValue::LongString(vec![0xff].into()));
    let properties = BasicProperties::default().with_headers(headers);
    for _ in 0..BAD {
        let (options, properties) = (BasicPublishOptions::default(), properties.clone());
        channel.basic_publish("".into(), topic.as_str().into(), options, b"x", properties).await.unwrap();
    }
    publisher(Topology::queue()).publish(&topic, messages(1)).await.unwrap();
    let good = loop {
        match timeout(patience(), subscription.next()).await.unwrap().unwrap() {
            Ok(delivery) => break delivery,
            Err(error) => assert_eq!(error.kind(), SubscribeErrorKind::Undecodable),
        }
    };
    good.ack_confirmed().await.unwrap();
    let status = format!("{:?}", subscription.status());
    assert!(status.contains(&format!("{BAD} of ")), "{status}");
    subscription.close().await.unwrap();
    let mut again = subscriber(Topology::queue()).subscribe(&topic).await.unwrap();
    let error = timeout(patience(), again.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Undecodable, "it is not lost");
}
