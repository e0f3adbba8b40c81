//! What the in-memory backend promises beyond the contract of the traits.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, poll};
use tokio::time::Instant;
use watermill_core::{
    Delivery, MemoryBroker, Message, Publisher, Subscriber, Subscription, Window,
    error::{NotAccepted, PublishErrorKind, SettleErrorKind, SubscribeErrorKind},
    memory::{History, MemoryConfig},
};

const TOPIC: &str = "topic";

fn messages(numbers: impl IntoIterator<Item = u32>) -> Vec<Message> {
    numbers.into_iter().map(|number| Message::with_id(number.to_string(), number.to_string())).collect()
}

fn broker(config: MemoryConfig) -> MemoryBroker {
    MemoryBroker::with_config(config).unwrap()
}

fn with_capacity(capacity: usize) -> MemoryBroker {
    broker(MemoryConfig::default().capacity(capacity))
}

fn unordered(size: usize) -> Window {
    Window::unordered(NonZeroUsize::new(size).unwrap())
}

fn ordered(size: usize) -> Window {
    Window::ordered(NonZeroUsize::new(size).unwrap())
}

async fn publish(broker: &MemoryBroker, numbers: impl IntoIterator<Item = u32>) {
    broker.publisher().publish(TOPIC, messages(numbers)).await.unwrap();
}

async fn next(subscription: &mut Subscription) -> Delivery {
    subscription.next().await.expect("the stream goes on").unwrap()
}

/// A delivery that is there already, or `None`.
fn now(subscription: &mut Subscription) -> Option<Delivery> {
    subscription.next().now_or_never().map(|next| next.expect("the stream goes on").unwrap())
}

/// Acks everything that is there, and returns the ids. The stream pauses now and then to let other
/// tasks run, so it is asked once more.
fn drain(subscription: &mut Subscription) -> Vec<String> {
    let mut ids = Vec::new();
    while let Some(delivery) = now(subscription).or_else(|| now(subscription)) {
        ids.push(delivery.id().to_string());
        delivery.ack();
    }
    ids
}

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
async fn every_anonymous_subscription_receives_everything_in_the_same_order() {
    let broker = MemoryBroker::new();
    let subscriber = broker.subscriber();
    let mut a = subscriber.subscribe(TOPIC).await.unwrap();
    let mut b = subscriber.subscribe(TOPIC).await.unwrap();
    publish(&broker, 1..=3).await;
    assert_eq!(drain(&mut a), ["1", "2", "3"]);
    assert_eq!(drain(&mut b), ["1", "2", "3"]);
}

#[tokio::test]
async fn a_group_goes_on_where_it_stopped_and_replays_nothing() {
    // P33: a second subscriber of Go's persistent GoChannel receives 1,000 acked messages again.
    let broker = broker(MemoryConfig::default().history(History::All));
    let mut first = broker.subscriber().group("billing").subscribe(TOPIC).await.unwrap();
    publish(&broker, 0..1000).await;
    assert_eq!(drain(&mut first).len(), 1000);
    publish(&broker, 1000..1002).await;
    let unsettled = next(&mut first).await;
    drop(first);
    publish(&broker, [1002]).await;
    let mut second = broker.subscriber().group("billing").subscribe(TOPIC).await.unwrap();
    let again = next(&mut second).await;
    assert_eq!((&**again.id(), again.info().attempt()), ("1000", 2));
    assert_eq!(again.info().group(), Some("billing"));
    again.ack();
    assert_eq!(drain(&mut second), ["1001", "1002"]);
    let late = unsettled.ack_confirmed().await.unwrap_err();
    assert_eq!(late.kind(), SettleErrorKind::Lost);
}

#[tokio::test]
async fn members_of_a_group_share_and_keep_order_while_one_wants_it() {
    let broker = MemoryBroker::new();
    let group = broker.subscriber().group("g");
    let mut a = group.subscribe(TOPIC).await.unwrap();
    let mut b = group.subscribe(TOPIC).await.unwrap();
    publish(&broker, 1..=3).await;
    let one = next(&mut a).await;
    assert!(now(&mut b).is_none(), "the other member is at work");
    one.ack();
    let two = next(&mut b).await;
    assert_eq!(&**two.id(), "2");
    a.set_window(unordered(1));
    assert!(now(&mut a).is_none(), "one member still wants order");
    b.set_window(unordered(1));
    assert_eq!(&**next(&mut a).await.id(), "3");
    two.ack();
}

#[tokio::test]
async fn a_waiting_member_takes_over_when_the_owner_leaves() {
    let broker = MemoryBroker::new();
    let group = broker.subscriber().group("g");
    let mut owner = group.subscribe(TOPIC).await.unwrap();
    let mut standby = group.subscribe(TOPIC).await.unwrap();
    publish(&broker, [1]).await;
    let held = next(&mut owner).await;
    let waiting = tokio::spawn(async move { next(&mut standby).await.info().attempt() });
    tokio::task::yield_now().await;
    drop(owner);
    assert_eq!(waiting.await.unwrap(), 2);
    drop(held);
}

#[tokio::test]
async fn a_reader_that_was_polled_and_left_alone_keeps_nothing_from_others() {
    let broker = MemoryBroker::new();
    let group = broker.subscriber().group("g");
    let mut idle = group.subscribe(TOPIC).await.unwrap();
    let mut busy = group.subscribe(TOPIC).await.unwrap();
    assert!(now(&mut idle).is_none());
    let reader = tokio::spawn(async move { next(&mut busy).await.id().to_string() });
    tokio::task::yield_now().await;
    publish(&broker, [1]).await;
    assert_eq!(reader.await.unwrap(), "1");
}

#[tokio::test]
async fn publish_waits_for_room_and_goes_on_when_there_is_some() {
    let broker = with_capacity(2);
    let mut subscription = broker.subscriber().subscribe(TOPIC).await.unwrap();
    publish(&broker, 1..=2).await;
    let publisher = broker.publisher();
    let mut third = publisher.publish(TOPIC, messages([3]));
    assert!(poll!(&mut third).is_pending());
    let one = next(&mut subscription).await;
    assert!(poll!(&mut third).is_pending(), "what is outstanding takes room");
    one.ack();
    third.await.unwrap();
    assert_eq!(drain(&mut subscription), ["2", "3"]);
}

#[tokio::test]
async fn waiting_calls_are_accepted_in_the_order_of_their_first_polls() {
    let broker = with_capacity(2);
    let mut subscription = broker.subscriber().subscribe(TOPIC).await.unwrap();
    publish(&broker, 1..=2).await;
    let publisher = broker.publisher();
    let mut large = publisher.publish(TOPIC, messages([3, 4]));
    let mut small = publisher.publish(TOPIC, messages([5]));
    assert!(poll!(&mut large).is_pending());
    assert!(poll!(&mut small).is_pending());
    next(&mut subscription).await.ack();
    assert!(poll!(&mut small).is_pending(), "there is room for it, but it came later");
    assert!(poll!(&mut large).is_pending());
    assert_eq!(drain(&mut subscription), ["2", "3", "4", "5"]);
    large.await.unwrap();
    small.await.unwrap();
}

#[tokio::test]
async fn a_call_dropped_while_it_waits_publishes_nothing_and_lets_others_pass() {
    let broker = with_capacity(2);
    let mut subscription = broker.subscriber().subscribe(TOPIC).await.unwrap();
    publish(&broker, [1]).await;
    let publisher = broker.publisher();
    let mut large = publisher.publish(TOPIC, messages([2, 3]));
    let mut small = publisher.publish(TOPIC, messages([4]));
    assert!(poll!(&mut large).is_pending());
    assert!(poll!(&mut small).is_pending());
    drop(large);
    small.await.unwrap();
    assert_eq!(drain(&mut subscription), ["1", "4"]);
}

#[tokio::test]
async fn a_full_group_keeps_a_call_out_of_every_group() {
    let broker = with_capacity(2);
    let mut slow = broker.subscriber().group("slow").subscribe(TOPIC).await.unwrap();
    let mut fast = broker.subscriber().group("fast").subscribe(TOPIC).await.unwrap();
    publish(&broker, 1..=2).await;
    assert_eq!(drain(&mut fast), ["1", "2"]);
    let publisher = broker.publisher();
    let mut third = publisher.publish(TOPIC, messages([3]));
    assert!(poll!(&mut third).is_pending());
    assert!(now(&mut fast).is_none());
    next(&mut slow).await.ack();
    assert_eq!(drain(&mut fast), ["3"]);
    third.await.unwrap();
}

#[tokio::test]
async fn publishers_go_on_when_the_slow_subscription_ends() {
    let broker = with_capacity(1);
    let subscription = broker.subscriber().subscribe(TOPIC).await.unwrap();
    publish(&broker, [1]).await;
    let publisher = broker.publisher();
    let mut second = publisher.publish(TOPIC, messages([2]));
    assert!(poll!(&mut second).is_pending());
    drop(subscription);
    second.await.unwrap();
}

#[tokio::test]
async fn a_call_larger_than_a_group_is_refused() {
    let error = with_capacity(2).publisher().publish(TOPIC, messages(0..3)).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Refused);
    assert_eq!(error.not_accepted(), &NotAccepted::All);
    assert!(error.to_string().contains("MemoryConfig::capacity"), "{error}");
}

#[tokio::test]
async fn a_publish_that_waits_for_its_ack_blocks_nobody_else() {
    // P22: while one Publish of Go's GoChannel waits for an ack, Subscribe and a Publish to another
    // topic block, too.
    let broker = broker(MemoryConfig::default().publish_waits_for_ack(Some(Duration::from_secs(3600))));
    let mut subscription = broker.subscriber().subscribe(TOPIC).await.unwrap();
    let publisher = broker.publisher();
    let mut waiting = publisher.publish(TOPIC, messages([1, 2]));
    assert!(poll!(&mut waiting).is_pending());
    let _other = broker.subscriber().subscribe("other").now_or_never().unwrap().unwrap();
    publisher.publish("third", messages([1])).now_or_never().unwrap().unwrap();
    next(&mut subscription).await.nack();
    next(&mut subscription).await.ack();
    assert!(poll!(&mut waiting).is_pending(), "one of two is acked");
    next(&mut subscription).await.reject("not today");
    waiting.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_publish_whose_ack_does_not_come_says_that_the_messages_were_accepted() {
    let broker = broker(MemoryConfig::default().publish_waits_for_ack(Some(Duration::from_secs(5))));
    let mut subscription = broker.subscriber().subscribe(TOPIC).await.unwrap();
    let error = broker.publisher().publish(TOPIC, messages([1])).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Timeout);
    assert_eq!(error.not_accepted(), &NotAccepted::At(Vec::new()));
    assert_eq!(drain(&mut subscription), ["1"]);
}

#[tokio::test]
async fn a_publish_does_not_wait_for_groups_that_have_gone() {
    let config = MemoryConfig::default().history(History::All);
    let broker = broker(config.publish_waits_for_ack(Some(Duration::from_secs(3600))));
    let subscription = broker.subscriber().subscribe(TOPIC).await.unwrap();
    let publisher = broker.publisher();
    let mut waiting = publisher.publish(TOPIC, messages([1]));
    assert!(poll!(&mut waiting).is_pending());
    drop(subscription);
    waiting.await.unwrap();
}

#[tokio::test]
async fn a_new_group_receives_the_history_that_was_asked_for() {
    for (history, expected) in [
        (History::None, &[][..]),
        (History::Last(NonZeroUsize::new(2).unwrap()), &["2", "3"][..]),
        (History::All, &["1", "2", "3"][..]),
    ] {
        let broker = broker(MemoryConfig::default().history(history));
        publish(&broker, 1..=3).await;
        let mut subscription = broker.subscriber().subscribe(TOPIC).await.unwrap();
        assert_eq!(drain(&mut subscription), expected, "{history:?}");
    }
}

#[tokio::test]
async fn nothing_published_after_initialize_is_missed() {
    let broker = MemoryBroker::new();
    for subscriber in [broker.subscriber(), broker.subscriber().group("g")] {
        subscriber.initialize(TOPIC).await.unwrap();
        subscriber.initialize(TOPIC).await.unwrap();
        publish(&broker, [1]).await;
        let mut first = subscriber.subscribe(TOPIC).await.unwrap();
        assert_eq!(drain(&mut first), ["1"]);
        let mut second = subscriber.subscribe(TOPIC).await.unwrap();
        assert!(now(&mut second).is_none());
    }
}

#[tokio::test]
async fn stopping_intake_ends_the_stream_and_leaves_deliveries_to_be_settled() {
    let broker = MemoryBroker::new();
    let group = broker.subscriber().group("g");
    let mut subscription = group.subscribe(TOPIC).await.unwrap();
    publish(&broker, 1..=2).await;
    let one = next(&mut subscription).await;
    subscription.stop_intake();
    assert!(subscription.next().await.is_none());
    one.ack_confirmed().await.unwrap();
    subscription.close().await.unwrap();
    let mut successor = group.subscribe(TOPIC).await.unwrap();
    let two = next(&mut successor).await;
    assert_eq!((&**two.id(), two.info().attempt()), ("2", 1));
    two.ack();
}

#[tokio::test]
async fn closing_the_subscriber_wakes_a_sleeping_reader() {
    let broker = MemoryBroker::new();
    let subscriber = broker.subscriber();
    let mut subscription = subscriber.subscribe(TOPIC).await.unwrap();
    let reader = tokio::spawn(async move { subscription.next().await.is_none() });
    tokio::task::yield_now().await;
    subscriber.close().await.unwrap();
    assert!(reader.await.unwrap());
}

#[tokio::test]
async fn what_a_subscription_leaves_goes_back_in_order() {
    let broker = MemoryBroker::new();
    let group = broker.subscriber().group("g");
    let mut first = group.subscribe(TOPIC).await.unwrap();
    first.set_window(unordered(3));
    publish(&broker, 1..=5).await;
    let held = [next(&mut first).await, next(&mut first).await, next(&mut first).await];
    first.close().await.unwrap();
    let mut second = group.subscribe(TOPIC).await.unwrap();
    assert_eq!(drain(&mut second), ["1", "2", "3", "4", "5"]);
    drop(held);
    assert!(now(&mut second).is_none());
}

#[tokio::test]
async fn closing_one_value_leaves_the_others_open() {
    let broker = MemoryBroker::new();
    let (closed, open) = (broker.subscriber(), broker.subscriber());
    let mut ended = closed.subscribe(TOPIC).await.unwrap();
    let mut running = open.subscribe(TOPIC).await.unwrap();
    closed.close().await.unwrap();
    closed.close().await.unwrap();
    assert!(ended.next().await.is_none());
    assert_eq!(closed.subscribe(TOPIC).await.unwrap_err().kind(), SubscribeErrorKind::Closed);
    let publisher = broker.publisher();
    publisher.close().await.unwrap();
    publisher.close().await.unwrap();
    let error = publisher.publish(TOPIC, messages([1])).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Closed);
    publish(&broker, [2]).await;
    assert_eq!(drain(&mut running), ["2"]);
}

#[tokio::test]
async fn closing_a_publisher_waits_for_calls_that_wait_for_room() {
    let broker = with_capacity(1);
    let mut subscription = broker.subscriber().subscribe(TOPIC).await.unwrap();
    publish(&broker, [1]).await;
    let publisher = broker.publisher();
    let mut second = publisher.publish(TOPIC, messages([2]));
    assert!(poll!(&mut second).is_pending());
    let mut closing = publisher.close();
    assert!(poll!(&mut closing).is_pending());
    assert_eq!(drain(&mut subscription), ["1", "2"]);
    second.await.unwrap();
    closing.await.unwrap();
}

#[tokio::test]
async fn names_that_cannot_be_are_refused() {
    let broker = MemoryBroker::new();
    let error = broker.publisher().publish("", messages([1])).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Topic);
    let error = broker.subscriber().subscribe("").await.unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Topic);
    let error = broker.subscriber().in_group("").err().unwrap();
    assert_eq!(error.kind(), SubscribeErrorKind::Config);
    let error = broker.subscriber().group("").subscribe(TOPIC).await.unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Config);
}

#[tokio::test]
async fn a_rejected_message_is_gone() {
    let broker = MemoryBroker::new();
    let mut subscription = broker.subscriber().subscribe(TOPIC).await.unwrap();
    publish(&broker, 1..=2).await;
    next(&mut subscription).await.reject("cannot be read");
    assert_eq!(drain(&mut subscription), ["2"]);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn competing_members_and_publishers_lose_and_repeat_nothing() {
    const PUBLISHERS: u32 = 4;
    const EACH: u32 = 500;
    let broker = with_capacity(8);
    let group = broker.subscriber().group("g");
    let (sender, mut acked) = tokio::sync::mpsc::channel(16);
    for size in 1..=3 {
        let mut member = group.subscribe(TOPIC).await.unwrap();
        member.set_window(unordered(size));
        let sender = sender.clone();
        tokio::spawn(async move {
            while let Some(Ok(delivery)) = member.next().await {
                if delivery.info().attempt() == 1 && delivery.info().offset().unwrap() % 7 == 0 {
                    delivery.nack();
                } else {
                    sender.send(delivery.id().parse::<u32>().unwrap()).await.unwrap();
                    delivery.ack();
                }
            }
        });
    }
    drop(sender);
    let publishing = (0..PUBLISHERS).map(|publisher| {
        let broker = broker.clone();
        tokio::spawn(async move {
            for number in 0..EACH {
                publish(&broker, [publisher * EACH + number]).await;
            }
        })
    });
    let publishing: Vec<_> = publishing.collect();
    let mut ids = Vec::new();
    for _ in 0..PUBLISHERS * EACH {
        ids.push(acked.recv().await.unwrap());
    }
    for task in publishing {
        task.await.unwrap();
    }
    group.close().await.unwrap();
    assert_eq!(acked.recv().await, None, "a message was acked twice");
    ids.sort_unstable();
    assert_eq!(ids, (0..PUBLISHERS * EACH).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_delivery_that_rides_on_the_message_it_caused_is_settled_without_a_deadlock() {
    let broker = MemoryBroker::new();
    let mut subscription = broker.subscriber().subscribe(TOPIC).await.unwrap();
    publish(&broker, [1]).await;
    let held = Arc::new(next(&mut subscription).await);
    let message = Message::with_id("2", "2").with_extension(held);
    broker.publisher().publish(TOPIC, vec![message]).await.unwrap();
    assert_eq!(drain(&mut subscription), ["1", "2"]);
}
