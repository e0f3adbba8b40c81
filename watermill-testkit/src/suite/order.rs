//! Order within a scope: with one consumer and many, with nacks, with publishers side by side.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures::future::join_all;
use watermill_core::{PublisherExt, error::NotAccepted, subscriber::Ordering};

use super::{
    fixture::{Consumers, Fixture, close, hold, keyed, message, next, ordered, take},
    obligation::{broken, exactly, ok, quiet, require, with_duplicates, within},
};
use crate::{Backend, Collector};

/// P4, S3: a thousand messages over sixteen keys keep their order, also over several calls.
pub async fn order_is_kept(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let messages = keyed(1_000, 16);
    for call in messages.chunks(50) {
        fixture.publish(call).await;
    }
    let mut subscription = fixture.subscribe().await;
    let seen = take(&mut subscription, 1_000).await;
    close(subscription).await;
    exactly("P4, S3: messages of a scope keep their order", &seen, &messages, fixture.ordering());
}

/// P4, S3: the same with ten consumers of one group side by side.
pub async fn order_is_kept_over_the_consumers_of_a_group(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let messages = keyed(1_000, 16);
    let consumers = Consumers::start(&fixture.subscriber(), &fixture.topic, 10).await;
    for call in messages.chunks(50) {
        fixture.publish(call).await;
    }
    let seen = consumers.finish(1_000).await;
    let (ordering, duplicates) = (fixture.ordering(), fixture.duplicates_of(10));
    with_duplicates(
        "S3: a group's consumers keep the order of a scope",
        &seen,
        &messages,
        ordering,
        duplicates,
    );
}

/// S3: a message that is nacked in the middle comes again before any later one.
pub async fn a_nacked_message_comes_again_before_any_later_one(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let messages = keyed(30, 1);
    fixture.publish(&messages).await;
    let mut subscription = fixture.subscribe().await;
    let mut acked = Collector::new();
    let mut nacks = HashMap::new();
    while acked.seen().len() < 30 {
        let delivery = next(&mut subscription).await;
        let nacked: &mut usize = nacks.entry(delivery.id().clone()).or_default();
        // Every third one fails, up to three times.
        let place = place(&delivery);
        if place.is_multiple_of(3) && *nacked < 1 + place % 4 {
            *nacked += 1;
            delivery.nack();
            continue;
        }
        acked.record(&delivery);
        delivery.ack();
    }
    quiet("S1: what was acked does not come again", &mut subscription).await;
    close(subscription).await;
    exactly("S3: a nacked message comes before any later one", &acked, &messages, fixture.ordering());
}

/// S3: with several out at once, a nacked one comes again before any that was not handed out yet.
pub async fn a_nacked_message_of_a_window_comes_before_what_was_not_handed_out(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let messages = keyed(10, 1);
    fixture.publish(&messages).await;
    let mut subscription = fixture.subscribe().await;
    subscription.set_window(ordered(3));
    let mut held = hold(&mut subscription, 3).await;
    let mut seen = Collector::new();
    // The second and third are nacked, in the wrong order, while the first is out.
    held.remove(2).nack();
    held.remove(1).nack();
    let first = held.remove(0);
    seen.record(&first);
    first.ack();
    for message in take(&mut subscription, 9).await.seen() {
        seen.record(message);
    }
    quiet("S1: what was acked does not come again", &mut subscription).await;
    close(subscription).await;
    exactly(
        "S3: a nacked message comes before what was not handed out",
        &seen,
        &messages,
        fixture.ordering(),
    );
}

/// S3: many keys, many failures, and each key's messages are handled in order.
pub async fn order_per_key_is_kept_under_nacks(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let messages = keyed(1_000, 50);
    for call in messages.chunks(100) {
        fixture.publish(call).await;
    }
    let mut subscription = fixture.subscribe().await;
    let mut acked = Collector::new();
    let mut nacked = HashSet::new();
    while acked.seen().len() < 1_000 {
        let delivery = next(&mut subscription).await;
        let place = place(&delivery);
        if place.is_multiple_of(7) && nacked.insert(place) {
            delivery.nack();
            continue;
        }
        acked.record(&delivery);
        delivery.ack();
    }
    close(subscription).await;
    exactly("S3: the order of a key is kept under nacks", &acked, &messages, fixture.ordering());
}

/// P1, P4: of ten publishers that work at once, each one's messages keep their order.
pub async fn publishers_side_by_side_keep_their_own_order(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let streams: Vec<Vec<_>> = (0..10)
        .map(|p| (0..50).map(|n| message(format!("{p}{n:03}")).with_key(format!("publisher-{p}"))).collect())
        .collect();
    join_all(streams.iter().map(|stream| {
        let (publisher, topic) = (fixture.publisher(), fixture.topic.as_str());
        async move {
            for message in stream {
                ok("P1: a call beside others is accepted", publisher.publish_one(topic, message.clone()))
                    .await;
            }
        }
    }))
    .await;
    let mut subscription = fixture.subscribe().await;
    let seen = take(&mut subscription, 500).await;
    close(subscription).await;
    // Between the publishers no order is promised, so it is compared within each key only.
    let ordering = if fixture.is_ordered() { Ordering::Scoped } else { Ordering::None };
    exactly("P4: calls that follow one another keep their order", &seen, &streams.concat(), ordering);
}

/// P4: where the publisher says so, calls in progress together are kept in the order of their first
/// polls. Where it does not, everything arrives all the same.
pub async fn calls_in_progress_together_keep_their_order(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let keeps_order = fixture.publisher().capabilities().keeps_order;
    let messages = keyed(200, 1);
    let publisher = fixture.publisher();
    let calls = messages.iter().map(|message| publisher.publish_one(&fixture.topic, message.clone()));
    // `join_all` polls for the first time in this order.
    for result in within("P1: calls in progress together end", join_all(calls)).await {
        result.unwrap_or_else(|error| broken("P2: a valid call is accepted", error));
    }
    let mut subscription = fixture.subscribe().await;
    let seen = take(&mut subscription, 200).await;
    close(subscription).await;
    let ordering = if keeps_order { fixture.ordering() } else { Ordering::None };
    exactly("P4: calls in progress together keep their order, as claimed", &seen, &messages, ordering);
}

/// P3, P9: of what a call did not accept of one key, none of the key's later messages is accepted, and so
/// whoever publishes what was not accepted again keeps the order. A message beyond the limits, where there
/// is one, fails a call in its middle.
pub async fn what_was_not_accepted_can_be_published_again_in_order(backend: Arc<dyn Backend>) {
    const TRIES: usize = 100;
    let fixture = Fixture::new(&backend).await;
    let (publisher, messages) = (fixture.publisher(), keyed(200, 4));
    for (call, chunk) in messages.chunks(20).enumerate() {
        let mut open = chunk.to_vec();
        // In every other call, of one key, with others of that key before and after it.
        let odd = backend.limits().beyond().filter(|_| call % 2 == 0);
        if let Some(odd) = odd {
            open.insert(10, odd.with_key("key-2"));
        }
        let mut tries = 0;
        while !open.is_empty() {
            let call = publisher.publish(&fixture.topic, open.clone());
            let Err(error) = within("P1: a call ends", call).await else { break };
            tries += 1;
            require("P3: what is tried again is accepted in the end", tries < TRIES);
            if let NotAccepted::At(positions) = error.not_accepted() {
                for (at, message) in open.iter().enumerate() {
                    let failed_before = positions.iter().any(|p| *p < at && open[*p].key() == message.key());
                    require(
                        "P9: of what a call did not accept of one key, none of that key's later ones is accepted",
                        !failed_before || positions.contains(&at),
                    );
                }
                let left = positions.iter().filter_map(|at| open.get(*at).cloned()).collect();
                open = left;
            }
            open.retain(|message| backend.limits().hold(message));
        }
    }
    let mut subscription = fixture.subscribe().await;
    let seen = take(&mut subscription, messages.len()).await;
    quiet("P3: what is said not to be accepted does not arrive", &mut subscription).await;
    close(subscription).await;
    let ordering = if fixture.is_ordered() { Ordering::Scoped } else { Ordering::None };
    exactly("P9: what was not accepted is published again in order", &seen, &messages, ordering);
}

/// Where a message is in what was published, by its id.
fn place(message: &watermill_core::Message) -> usize {
    message.id().parse().unwrap_or_else(|_| broken("P5: an id arrives as it was", message.id()))
}
