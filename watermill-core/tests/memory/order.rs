//! Order, delays and the window.

use std::time::Duration;

use tokio::time::Instant;
use watermill_core::{MemoryBroker, Publisher, Subscriber, Window};

use crate::{TOPIC, drain, messages, next, now, ordered, publish, unordered, with_capacity};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_messages_arrive_without_an_inversion() {
    // P21: Go's GoChannel delivers 5,000 messages with 971 inversions, 196 with a buffer.
    let broker = MemoryBroker::new();
    let mut subscription = broker.subscriber().subscribe(TOPIC).await.unwrap();
    subscription.set_window(ordered(16));
    let publisher = broker.publisher();
    let publishing = tokio::spawn(async move {
        for number in 0..5000 {
            publisher.publish(TOPIC, messages([number])).await.unwrap();
        }
    });
    for number in 0..5000_u32 {
        let delivery = next(&mut subscription).await;
        assert_eq!(*delivery.id(), *number.to_string());
        assert_eq!(delivery.info().offset(), Some(number.into()));
        delivery.ack();
    }
    publishing.await.unwrap();
}

#[tokio::test]
async fn a_nacked_message_comes_again_before_any_later_one() {
    let broker = MemoryBroker::new();
    let mut subscription = broker.subscriber().subscribe(TOPIC).await.unwrap();
    subscription.set_window(ordered(2));
    publish(&broker, 1..=4).await;
    let (one, two) = (next(&mut subscription).await, next(&mut subscription).await);
    two.nack();
    one.nack();
    let again = next(&mut subscription).await;
    assert_eq!((&**again.id(), again.info().attempt(), again.info().redelivered()), ("1", 2, true));
    again.ack();
    assert_eq!(drain(&mut subscription), ["2", "3", "4"]);
}

#[tokio::test(start_paused = true)]
async fn later_messages_wait_for_a_delayed_one_in_order() {
    let broker = MemoryBroker::new();
    let mut subscription = broker.subscriber().subscribe(TOPIC).await.unwrap();
    publish(&broker, 1..=3).await;
    let start = Instant::now();
    next(&mut subscription).await.nack_after(Duration::from_secs(60));
    assert!(now(&mut subscription).is_none());
    let again = next(&mut subscription).await;
    assert_eq!((&**again.id(), start.elapsed().as_secs()), ("1", 60));
    again.ack();
    assert_eq!(drain(&mut subscription), ["2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_message_holds_nothing_up_without_order() {
    let broker = MemoryBroker::new();
    let mut subscription = broker.subscriber().subscribe(TOPIC).await.unwrap();
    subscription.set_window(unordered(2));
    publish(&broker, 1..=4).await;
    let start = Instant::now();
    next(&mut subscription).await.nack_after(Duration::from_secs(60));
    next(&mut subscription).await.nack_after(Duration::from_secs(30));
    assert_eq!(drain(&mut subscription), ["3", "4"]);
    for (id, after) in [("2", 30), ("1", 60)] {
        let again = next(&mut subscription).await;
        assert_eq!((&**again.id(), start.elapsed().as_secs()), (id, after));
        again.ack();
    }
}

#[tokio::test]
async fn a_failing_message_does_not_starve_others_without_order() {
    let broker = MemoryBroker::new();
    let mut subscription = broker.subscriber().subscribe(TOPIC).await.unwrap();
    subscription.set_window(unordered(1));
    publish(&broker, 1..=3).await;
    next(&mut subscription).await.nack();
    assert_eq!(drain(&mut subscription), ["2", "3", "1"]);
}

#[tokio::test(start_paused = true)]
async fn a_sleeping_reader_learns_of_a_delay_that_begins_later() {
    let broker = MemoryBroker::new();
    let mut subscription = broker.subscriber().subscribe(TOPIC).await.unwrap();
    subscription.set_window(unordered(2));
    publish(&broker, [1]).await;
    let delivery = next(&mut subscription).await;
    let reader = tokio::spawn(async move { next(&mut subscription).await.info().attempt() });
    tokio::task::yield_now().await;
    delivery.nack_after(Duration::from_secs(5));
    assert_eq!(reader.await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_delay_beyond_every_clock_is_a_long_one() {
    let broker = MemoryBroker::new();
    let mut subscription = broker.subscriber().subscribe(TOPIC).await.unwrap();
    publish(&broker, [1]).await;
    next(&mut subscription).await.nack_after(Duration::MAX);
    assert!(now(&mut subscription).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_change_of_order_keeps_delayed_messages() {
    let broker = MemoryBroker::new();
    let mut subscription = broker.subscriber().subscribe(TOPIC).await.unwrap();
    subscription.set_window(unordered(2));
    publish(&broker, 1..=3).await;
    next(&mut subscription).await.nack_after(Duration::from_secs(1));
    subscription.set_window(Window::ONE);
    assert!(now(&mut subscription).is_none(), "now the others wait for it");
    let again = next(&mut subscription).await;
    assert_eq!(&**again.id(), "1");
    again.nack_after(Duration::from_secs(1));
    subscription.set_window(unordered(1));
    assert_eq!(drain(&mut subscription), ["2", "3"]);
    assert_eq!(&**next(&mut subscription).await.id(), "1");
}

#[tokio::test]
async fn at_most_the_window_is_outstanding() {
    // P31: Go's GoChannel starts 5,000 handlers for 5,000 messages.
    let broker = with_capacity(5000);
    let mut subscription = broker.subscriber().subscribe(TOPIC).await.unwrap();
    publish(&broker, 0..5000).await;
    let first = next(&mut subscription).await;
    assert!(now(&mut subscription).is_none());
    subscription.set_window(unordered(10));
    let more: Vec<_> = std::iter::from_fn(|| now(&mut subscription)).collect();
    assert_eq!(more.len(), 9);
    first.ack();
    assert!(now(&mut subscription).is_some());
}

#[tokio::test]
async fn a_consumer_that_nacks_for_ever_lets_other_tasks_run() {
    // P30: the delivery loop yields, so even a storm of nacks cannot hang a runtime of one thread.
    let broker = MemoryBroker::new();
    let mut subscription = broker.subscriber().subscribe(TOPIC).await.unwrap();
    publish(&broker, [1]).await;
    let storm = tokio::spawn(async move {
        loop {
            next(&mut subscription).await.nack();
        }
    });
    tokio::task::yield_now().await;
    storm.abort();
    assert!(storm.await.unwrap_err().is_cancelled());
}
