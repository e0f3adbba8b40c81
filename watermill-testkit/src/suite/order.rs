//! Order within a scope: with one consumer and many, with nacks, with publishers side by side.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures::future::join_all;
use watermill_core::{PublisherExt, subscriber::Ordering};

use super::stage::{Crew, Stage, close, keyed, message, next, ok, ordered, quiet, take, within};
use crate::{Backend, Collector, Lack};

/// S3: the order that is promised is the order that the list of lacks leaves.
pub async fn the_promised_order_is_as_listed(backend: Arc<dyn Backend>) {
    let stage = Stage::bare(&backend).await;
    let listed = if stage.lacks(Lack::Order) {
        Ordering::None
    } else if stage.lacks(Lack::TotalOrder) {
        Ordering::Scoped
    } else {
        Ordering::Total
    };
    assert_eq!(stage.ordering(), listed);
}

/// P4, S3: a thousand messages over sixteen keys keep their order, also over several calls.
pub async fn order_is_kept(backend: Arc<dyn Backend>) {
    let stage = Stage::new(&backend).await;
    let messages = keyed(1_000, 16);
    for call in messages.chunks(50) {
        stage.publish(call).await;
    }
    let mut subscription = stage.subscribe().await;
    take(&mut subscription, 1_000).await.assert_exactly(&messages, stage.ordering());
    close(subscription).await;
}

/// P4, S3: the same with ten consumers of one group side by side.
pub async fn order_is_kept_over_the_consumers_of_a_group(backend: Arc<dyn Backend>) {
    let stage = Stage::new(&backend).await;
    let messages = keyed(1_000, 16);
    let crew = Crew::start(&stage.subscriber(), &stage.topic, 10).await;
    for call in messages.chunks(50) {
        stage.publish(call).await;
    }
    let seen = crew.finish(1_000).await;
    seen.assert_with_duplicates(&messages, stage.ordering(), stage.duplicates_of(10));
}

/// S3: a message that is nacked in the middle comes again before any later one.
pub async fn a_nacked_message_comes_again_before_any_later_one(backend: Arc<dyn Backend>) {
    let stage = Stage::new(&backend).await;
    let messages = keyed(30, 1);
    stage.publish(&messages).await;
    let mut subscription = stage.subscribe().await;
    let mut acked = Collector::new();
    let mut nacks = HashMap::new();
    while acked.seen().len() < 30 {
        let delivery = next(&mut subscription).await;
        let nacked: &mut usize = nacks.entry(delivery.id().clone()).or_default();
        // Every third one fails, up to three times.
        let place = delivery.id().parse::<usize>().expect("ids are numbers");
        if place.is_multiple_of(3) && *nacked < 1 + place % 4 {
            *nacked += 1;
            delivery.nack();
            continue;
        }
        acked.record(&delivery);
        delivery.ack();
    }
    quiet(&mut subscription).await;
    close(subscription).await;
    acked.assert_exactly(&messages, stage.ordering());
}

/// S3: with several out at once, a nacked one comes again before any that was not handed out yet.
pub async fn a_nacked_message_of_a_window_comes_before_what_was_not_handed_out(backend: Arc<dyn Backend>) {
    let stage = Stage::new(&backend).await;
    let messages = keyed(10, 1);
    stage.publish(&messages).await;
    let mut subscription = stage.subscribe().await;
    subscription.set_window(ordered(3));
    let mut held = super::stage::hold(&mut subscription, 3).await;
    let mut seen = Collector::new();
    // The second and third are nacked, in the wrong order, while the first is out.
    held.pop().expect("three are held").nack();
    held.pop().expect("two are held").nack();
    let first = held.pop().expect("one is held");
    seen.record(&first);
    first.ack();
    for message in take(&mut subscription, 9).await.seen() {
        seen.record(message);
    }
    quiet(&mut subscription).await;
    close(subscription).await;
    seen.assert_exactly(&messages, stage.ordering());
}

/// S3: many keys, many failures, and each key's messages are handled in order.
pub async fn order_per_key_is_kept_under_nacks(backend: Arc<dyn Backend>) {
    let stage = Stage::new(&backend).await;
    let messages = keyed(1_000, 50);
    for call in messages.chunks(100) {
        stage.publish(call).await;
    }
    let mut subscription = stage.subscribe().await;
    let mut acked = Collector::new();
    let mut nacked = HashSet::new();
    while acked.seen().len() < 1_000 {
        let delivery = next(&mut subscription).await;
        let place = delivery.id().parse::<usize>().expect("ids are numbers");
        if place.is_multiple_of(7) && nacked.insert(place) {
            delivery.nack();
            continue;
        }
        acked.record(&delivery);
        delivery.ack();
    }
    close(subscription).await;
    acked.assert_exactly(&messages, stage.ordering());
}

/// P1, P4: of ten publishers that work at once, each one's messages keep their order.
pub async fn publishers_side_by_side_keep_their_own_order(backend: Arc<dyn Backend>) {
    let stage = Stage::new(&backend).await;
    let streams: Vec<Vec<_>> = (0..10)
        .map(|p| (0..50).map(|n| message(format!("{p}{n:03}")).with_key(format!("publisher-{p}"))).collect())
        .collect();
    join_all(streams.iter().map(|stream| {
        let (publisher, topic) = (stage.publisher(), stage.topic.as_str());
        async move {
            for message in stream {
                ok("publish", publisher.publish_one(topic, message.clone())).await;
            }
        }
    }))
    .await;
    let mut subscription = stage.subscribe().await;
    let seen = take(&mut subscription, 500).await;
    close(subscription).await;
    // Between the publishers no order is promised, so it is compared within each key only.
    let ordering = if stage.lacks(Lack::Order) { Ordering::None } else { Ordering::Scoped };
    seen.assert_exactly(&streams.concat(), ordering);
}

/// P4: where the publisher says so, calls in progress together are kept in the order of their first
/// polls. Where it does not, everything arrives all the same.
pub async fn calls_in_progress_together_keep_their_order(backend: Arc<dyn Backend>) {
    let stage = Stage::new(&backend).await;
    let keeps_order = stage.publisher().capabilities().keeps_order;
    assert_eq!(keeps_order, !stage.lacks(Lack::PublishOrder), "the capability and the list of lacks");
    let messages = keyed(200, 1);
    let publisher = stage.publisher();
    let calls = messages.iter().map(|message| publisher.publish_one(&stage.topic, message.clone()));
    // `join_all` polls for the first time in this order.
    for result in within("every call ends", join_all(calls)).await {
        result.expect("every call is accepted");
    }
    let mut subscription = stage.subscribe().await;
    let seen = take(&mut subscription, 200).await;
    close(subscription).await;
    seen.assert_exactly(&messages, if keeps_order { stage.ordering() } else { Ordering::None });
}
