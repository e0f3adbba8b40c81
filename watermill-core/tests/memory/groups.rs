//! Consumer groups: who receives what, and from where on.

use std::num::NonZeroUsize;

use futures::StreamExt;
use watermill_core::{
    MemoryBroker, Publisher, Subscriber,
    error::{PublishErrorKind, SettleErrorKind, SubscribeErrorKind},
    memory::{History, MemoryConfig},
};

use crate::{TOPIC, broker, drain, messages, next, now, publish, unordered, with_capacity};

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
