//! Ack, nack, reject, and what is dropped.

use std::{collections::HashSet, sync::Arc, time::Duration};

use watermill_core::{Delivery, delivery::Outcome, subscriber::Ordering};

use super::{
    fixture::{
        Fixture, close, hold, initialize, message, next, numbered, ordered, subscribe, take, unordered,
    },
    obligation::{NACK, equal, exactly, ok, quiet, require, within},
};
use crate::{Backend, Collector, Lack};

/// S1: the first two of a hundred are nacked, and all hundred come; those two come twice.
pub async fn nacked_messages_come_again(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let messages = numbered(100);
    fixture.publish(&messages).await;
    let mut subscription = fixture.subscribe().await;
    let mut nacked = HashSet::new();
    let mut acked = Collector::new();
    while acked.seen().len() < 100 {
        let delivery = next(&mut subscription).await;
        let again = nacked.contains(delivery.id());
        // What a backend cannot know it must not claim.
        let told = again && !fixture.lacks(Lack::Redelivered);
        equal("S1: a delivery says whether it may be a redelivery", delivery.info().redelivered(), told);
        if fixture.capabilities().attempts {
            let attempt = if again { 2 } else { 1 };
            equal("S1: deliveries are counted, as claimed", delivery.info().attempt(), attempt);
        }
        if nacked.len() < 2 && !again {
            nacked.insert(delivery.id().clone());
            delivery.nack();
        } else {
            acked.record(&delivery);
            delivery.ack();
        }
    }
    quiet("S1: what was acked does not come again", &mut subscription).await;
    close(subscription).await;
    exactly("S1: every message comes until it is acked", &acked, &messages, fixture.ordering());
}

/// S2: the second message of a scope waits until the first is settled.
pub async fn one_at_a_time_until_settled(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let messages = numbered(2);
    let mut subscription = fixture.subscribe().await;
    fixture.publish(&messages).await;
    let first = next(&mut subscription).await;
    if fixture.is_ordered() {
        equal("S3: the first comes first", first.id(), messages[0].id());
        quiet("S2: the second of a scope waits until the first is settled", &mut subscription).await;
    }
    first.ack();
    next(&mut subscription).await.ack();
    quiet("S1: what was acked does not come again", &mut subscription).await;
    close(subscription).await;
}

/// S1, S7: three consumers that nack a hundred times each and leave, and nothing is lost.
pub async fn consumers_that_fail_again_and_again_lose_nothing(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let messages = numbered(50);
    fixture.publish(&messages).await;
    for _ in 0..3 {
        let mut subscription = fixture.subscribe().await;
        for _ in 0..100 {
            next(&mut subscription).await.nack();
        }
        close(subscription).await;
    }
    fixture.expect_left("S1, S7: what consumers nacked is left for the next", &messages).await;
}

/// S4: a delivery that is dropped unsettled, also by a panicking consumer, comes again.
pub async fn a_dropped_delivery_comes_again(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let messages = numbered(3);
    fixture.publish(&messages).await;
    let mut subscription = fixture.subscribe().await;
    let first = next(&mut subscription).await;
    let id = first.id().clone();
    drop(first);
    let mut seen = Collector::new();
    while seen.seen().len() < 3 {
        let delivery = next(&mut subscription).await;
        if fixture.is_ordered() && seen.seen().is_empty() {
            equal("S3, S4: a dropped delivery is nacked: it comes before later ones", delivery.id(), &id);
        }
        seen.record(&delivery);
        delivery.ack();
    }
    close(subscription).await;
    exactly("S4: what is dropped unsettled is nacked", &seen, &messages, fixture.ordering());
}

/// S1: a rejected message does not come again; it goes to the place for dead letters, if there is one.
pub async fn a_rejected_message_does_not_come_again(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let has_place = fixture.capabilities().dead_letters;
    let place = backend.dead_letter_topic(&fixture.topic);
    equal("S1: a place for dead letters is where it is claimed", has_place, place.is_some());
    if let Some(place) = &place {
        initialize(&fixture.subscriber(), place).await;
    }

    let messages = numbered(2);
    fixture.publish(&messages).await;
    let mut subscription = fixture.subscribe().await;
    let first = next(&mut subscription).await;
    let id = first.id().clone();
    first.reject("it cannot be processed");
    let second = next(&mut subscription).await;
    require("S1: a rejected message does not come again", *second.id() != id);
    second.ack();
    quiet("S1: a rejected message does not come again", &mut subscription).await;
    close(subscription).await;
    fixture.expect_left("S1: a rejected message does not come again", &[]).await;

    if let Some(place) = place {
        let mut dead = subscribe(&fixture.subscriber(), &place).await;
        let seen = take(&mut dead, 1).await;
        equal("S1: a rejected message goes to the dead letters", seen.ids(), [id.as_str()]);
        close(dead).await;
    }
}

/// S4: once an ack is confirmed, even a subscription that is dropped at once keeps it.
pub async fn a_confirmed_ack_is_recorded(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let messages = numbered(3);
    fixture.publish(&messages).await;
    let mut subscription = fixture.subscribe().await;
    let first = next(&mut subscription).await;
    let id = first.id().clone();
    ok("S4: an ack can be confirmed", first.ack_confirmed()).await;
    drop(subscription);
    let left: Vec<_> = messages.into_iter().filter(|message| *message.id() != id).collect();
    fixture.expect_left("S4: what was confirmed is recorded", &left).await;
}

/// S4: a nack and a reject can be confirmed like an ack, and do what they say.
pub async fn every_outcome_can_be_confirmed(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let messages = numbered(2);
    fixture.publish(&messages).await;
    let mut subscription = fixture.subscribe().await;
    ok("S4: a nack can be confirmed", next(&mut subscription).await.settle_confirmed(NACK)).await;
    let first = next(&mut subscription).await;
    if fixture.is_ordered() {
        equal("S3: what was nacked comes before later ones", first.id(), messages[0].id());
    }
    let rejected = first.id().clone();
    let reject = Outcome::Reject { reason: "it cannot be processed".to_owned() };
    ok("S4: a reject can be confirmed", first.settle_confirmed(reject)).await;
    drop(subscription);
    let left: Vec<_> = messages.into_iter().filter(|message| *message.id() != rejected).collect();
    fixture.expect_left("S4: a confirmed reject is recorded", &left).await;
}

/// S3: nothing comes before the delay of a nack is over, and in an unordered window later messages pass
/// the one that waits. In an ordered window they do not, whatever the delay.
pub async fn a_nack_delay_is_waited_for(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let waits = fixture.capabilities().nack_delay;
    let messages = numbered(3);
    let (first, others) = messages.split_at(1);
    for passes in [false, true] {
        fixture.publish(first).await;
        let mut subscription = fixture.subscribe().await;
        if passes {
            subscription.set_window(unordered(1));
        }
        // Long enough for the others to pass on a slow machine, if they may at all.
        next(&mut subscription).await.nack_after(Duration::from_secs(if passes { 2 } else { 1 }));
        if waits {
            quiet("S3: the delay of a nack is waited for, as claimed", &mut subscription).await;
        }
        fixture.publish(others).await;
        let seen = take(&mut subscription, 3).await;
        quiet("S1: what was acked does not come again", &mut subscription).await;
        close(subscription).await;
        exactly("S1: a nack with a delay loses nothing", &seen, &messages, Ordering::None);
        if passes && waits && !fixture.lacks(Lack::UnorderedWindow) {
            equal("S3: in an unordered window others pass", seen.ids().last(), Some(&"0000"));
            if fixture.is_ordered() {
                equal("S3: in an unordered window others pass", seen.ids(), ["0001", "0002", "0000"]);
            }
        } else if !passes && fixture.is_ordered() {
            equal("S3: in an ordered window nothing passes", seen.ids(), ["0000", "0001", "0002"]);
        }
    }
}

/// S4: whoever works for a delivery is told when it is settled, and when its subscription is closed.
pub async fn work_is_cancelled_with_its_delivery(backend: Arc<dyn Backend>) {
    const CANCELLED: &str = "S10: whoever works for a delivery is told when its subscription ends";
    let fixture = Fixture::new(&backend).await;
    fixture.publish(&[message("1"), message("2")]).await;
    let mut subscription = fixture.subscribe().await;
    let first = next(&mut subscription).await;
    let cancellation = first.cancellation();
    require("S4: work is not cancelled before its delivery is settled", !cancellation.is_cancelled());
    first.ack();
    within("S4: an ack cancels what watches its delivery", cancellation.cancelled()).await;

    let second = next(&mut subscription).await;
    let cancellation = second.cancellation();
    require("S4: work is not cancelled before its delivery is settled", !cancellation.is_cancelled());
    close(subscription).await;
    within(CANCELLED, cancellation.cancelled()).await;

    let mut subscription = fixture.subscribe().await;
    let again = next(&mut subscription).await;
    let cancellation = again.cancellation();
    drop(subscription);
    within(CANCELLED, cancellation.cancelled()).await;
}

/// S1, S3: with several in hand, each is settled for itself, whatever the order of the acks.
pub async fn acks_out_of_order_are_recorded(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let messages = numbered(3);
    fixture.publish(&messages).await;
    let mut subscription = fixture.subscribe().await;
    subscription.set_window(ordered(3));
    let mut held = hold(&mut subscription, 3).await;
    held.reverse();
    held.into_iter().for_each(Delivery::ack);
    close(subscription).await;
    fixture.expect_left("S1: what was acked in any order does not come again", &[]).await;
}
