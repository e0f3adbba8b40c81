//! Ack, nack, reject, and what is dropped.

use std::{collections::HashSet, sync::Arc, time::Duration};

use watermill_core::subscriber::Ordering;

use super::stage::{
    Stage, close, hold, initialize, message, next, numbered, ok, ordered, quiet, subscribe, take, unordered,
    within,
};
use crate::{Backend, Collector, Lack};

/// S1: the first two of a hundred are nacked, and all hundred come; those two come twice.
pub async fn nacked_messages_come_again(backend: Arc<dyn Backend>) {
    let stage = Stage::new(&backend).await;
    let messages = numbered(100);
    stage.publish(&messages).await;
    let mut subscription = stage.subscribe().await;
    let mut nacked = HashSet::new();
    let mut acked = Collector::new();
    while acked.seen().len() < 100 {
        let delivery = next(&mut subscription).await;
        let again = nacked.contains(delivery.id());
        // What a backend cannot know it must not claim.
        let told = again && !stage.lacks(Lack::Redelivered);
        assert_eq!(delivery.info().redelivered(), told, "redelivered, of {}", delivery.id());
        if nacked.len() < 2 && !again {
            nacked.insert(delivery.id().clone());
            delivery.nack();
        } else {
            acked.record(&delivery);
            delivery.ack();
        }
    }
    quiet(&mut subscription).await;
    close(subscription).await;
    acked.assert_exactly(&messages, stage.ordering());
}

/// S2: the second message of a scope waits until the first is settled.
pub async fn one_at_a_time_until_settled(backend: Arc<dyn Backend>) {
    let stage = Stage::new(&backend).await;
    let messages = numbered(2);
    stage.publish(&messages).await;
    let mut subscription = stage.subscribe().await;
    let first = next(&mut subscription).await;
    if !stage.lacks(Lack::Order) {
        assert_eq!(first.id(), messages[0].id());
        quiet(&mut subscription).await;
    }
    first.ack();
    next(&mut subscription).await.ack();
    quiet(&mut subscription).await;
    close(subscription).await;
}

/// S1, S7: three consumers that nack a hundred times each and leave, and nothing is lost.
pub async fn consumers_that_fail_again_and_again_lose_nothing(backend: Arc<dyn Backend>) {
    let stage = Stage::new(&backend).await;
    let messages = numbered(50);
    stage.publish(&messages).await;
    for _ in 0..3 {
        let mut subscription = stage.subscribe().await;
        for _ in 0..100 {
            next(&mut subscription).await.nack();
        }
        close(subscription).await;
    }
    stage.expect_left(&messages).await;
}

/// S4: a delivery that is dropped unsettled, also by a panicking consumer, comes again.
pub async fn a_dropped_delivery_comes_again(backend: Arc<dyn Backend>) {
    let stage = Stage::new(&backend).await;
    let messages = numbered(3);
    stage.publish(&messages).await;
    let mut subscription = stage.subscribe().await;
    let first = next(&mut subscription).await;
    let id = first.id().clone();
    drop(first);
    let mut seen = Collector::new();
    while seen.seen().len() < 3 {
        let delivery = next(&mut subscription).await;
        if !stage.lacks(Lack::Order) && seen.seen().is_empty() {
            assert_eq!(delivery.id(), &id, "the dropped one comes first");
        }
        seen.record(&delivery);
        delivery.ack();
    }
    close(subscription).await;
    seen.assert_exactly(&messages, stage.ordering());
}

/// S1: a rejected message does not come again; it goes to the place for dead letters, if there is one.
pub async fn a_rejected_message_does_not_come_again(backend: Arc<dyn Backend>) {
    let stage = Stage::new(&backend).await;
    let has_place = stage.connection.subscriber.capabilities().dead_letters;
    assert_eq!(has_place, !stage.lacks(Lack::DeadLetters), "the capability and the list of lacks");
    let place = backend.dead_letter_topic(&stage.topic);
    assert_eq!(has_place, place.is_some(), "the capability and `dead_letter_topic`");
    if let Some(place) = &place {
        initialize(&stage.subscriber(), place).await;
    }

    let messages = numbered(2);
    stage.publish(&messages).await;
    let mut subscription = stage.subscribe().await;
    let first = next(&mut subscription).await;
    let id = first.id().clone();
    first.reject("it cannot be processed");
    let second = next(&mut subscription).await;
    assert_ne!(second.id(), &id);
    second.ack();
    quiet(&mut subscription).await;
    close(subscription).await;
    stage.expect_left(&[]).await;

    if let Some(place) = place {
        let mut dead = subscribe(&stage.subscriber(), &place).await;
        assert_eq!(take(&mut dead, 1).await.ids(), [id.as_str()]);
        close(dead).await;
    }
}

/// S4: once an ack is confirmed, even a subscription that is dropped at once keeps it.
pub async fn a_confirmed_ack_is_recorded(backend: Arc<dyn Backend>) {
    let stage = Stage::new(&backend).await;
    let messages = numbered(3);
    stage.publish(&messages).await;
    let mut subscription = stage.subscribe().await;
    let first = next(&mut subscription).await;
    let id = first.id().clone();
    ok("confirm the ack", first.ack_confirmed()).await;
    drop(subscription);
    let left: Vec<_> = messages.into_iter().filter(|message| *message.id() != id).collect();
    stage.expect_left(&left).await;
}

/// S3: nothing comes before the delay of a nack is over, and in an unordered window later messages pass
/// the one that waits. In an ordered window they do not, whatever the delay.
pub async fn a_nack_delay_is_waited_for(backend: Arc<dyn Backend>) {
    let stage = Stage::new(&backend).await;
    let waits = stage.connection.subscriber.capabilities().nack_delay;
    assert_eq!(waits, !stage.lacks(Lack::NackDelay), "the capability and the list of lacks");
    let messages = numbered(3);
    let (first, others) = messages.split_at(1);
    for passes in [false, true] {
        stage.publish(first).await;
        let mut subscription = stage.subscribe().await;
        if passes {
            subscription.set_window(unordered(1));
        }
        // Long enough for the others to pass on a slow machine, if they may at all.
        next(&mut subscription).await.nack_after(Duration::from_secs(if passes { 2 } else { 1 }));
        if waits {
            quiet(&mut subscription).await;
        }
        stage.publish(others).await;
        let seen = take(&mut subscription, 3).await;
        quiet(&mut subscription).await;
        close(subscription).await;
        seen.assert_exactly(&messages, Ordering::None);
        if passes && waits && !stage.lacks(Lack::UnorderedWindow) {
            assert_eq!(seen.ids(), ["0001", "0002", "0000"], "the others pass");
        } else if !passes && !stage.lacks(Lack::Order) {
            assert_eq!(seen.ids(), ["0000", "0001", "0002"], "nothing passes");
        }
    }
}

/// S2, S6: a window hands out as many as it says, in each scope, and no more.
pub async fn a_wider_window_hands_out_more(backend: Arc<dyn Backend>) {
    let stage = Stage::new(&backend).await;
    let messages = numbered(10);
    stage.publish(&messages).await;
    let mut subscription = stage.subscribe().await;
    subscription.set_window(ordered(3));
    let mut held = hold(&mut subscription, 3).await;
    if !stage.lacks(Lack::Order) {
        quiet(&mut subscription).await;
    }
    let mut seen = Collector::from_iter(held.iter().map(|delivery| delivery.message()));
    held.remove(0).ack();
    let fourth = next(&mut subscription).await;
    seen.record(&fourth);
    fourth.ack();
    held.into_iter().for_each(watermill_core::Delivery::ack);
    for message in take(&mut subscription, 6).await.seen() {
        seen.record(message);
    }
    close(subscription).await;
    seen.assert_exactly(&messages, stage.ordering());
    stage.expect_left(&[]).await;
}

/// S4: whoever works for a delivery is told when it is settled, and when its subscription is closed.
pub async fn work_is_cancelled_with_its_delivery(backend: Arc<dyn Backend>) {
    let stage = Stage::new(&backend).await;
    stage.publish(&[message("1"), message("2")]).await;
    let mut subscription = stage.subscribe().await;
    let first = next(&mut subscription).await;
    let cancellation = first.cancellation();
    assert!(!cancellation.is_cancelled());
    first.ack();
    within("the ack cancels", cancellation.cancelled()).await;

    let second = next(&mut subscription).await;
    let cancellation = second.cancellation();
    assert!(!cancellation.is_cancelled());
    close(subscription).await;
    within("the end of the subscription cancels", cancellation.cancelled()).await;

    let mut subscription = stage.subscribe().await;
    let again = next(&mut subscription).await;
    let cancellation = again.cancellation();
    drop(subscription);
    within("dropping the subscription cancels", cancellation.cancelled()).await;
}
