//! Beginning and ending: subscriptions that come and go, and what is closed.

use std::sync::Arc;

use futures::future::join_all;
use watermill_core::{
    Delivery,
    error::{PublishErrorKind, SubscribeErrorKind},
    subscriber::Ordering,
    subscription::Health,
};

use super::{
    fixture::{Fixture, close, hold, message, next, numbered, ordered, publish, subscribe, take},
    obligation::{ended, equal, exactly, ok, quiet, refused, require, with_duplicates},
};
use crate::{Backend, Collector, Lack};

/// P8: a closed publisher refuses with `Closed`, and closing twice is `Ok`.
pub async fn a_closed_publisher_refuses(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let publisher = fixture.publisher();
    for _ in 0..2 {
        ok("P8: closing a publisher, twice too, is Ok", publisher.close()).await;
    }
    let call = publisher.publish(&fixture.topic, vec![message("1")]);
    let error = refused("P8: a closed publisher refuses", call).await;
    equal("P8: a closed publisher refuses with Closed", error.kind(), PublishErrorKind::Closed);
    require("P8: what is closed is not worth trying again", !error.is_retryable());

    let other = fixture.connect().await;
    let mut subscription = fixture.subscribe().await;
    publish(&other.publisher, &fixture.topic, &[message("2")]).await;
    equal("P8: closing one publisher closes no other", take(&mut subscription, 1).await.ids(), ["2"]);
    close(subscription).await;
}

/// S8: a closed subscriber refuses with `Closed`, and closing twice is `Ok`.
pub async fn a_closed_subscriber_refuses(backend: Arc<dyn Backend>) {
    let fixture = Fixture::bare(&backend).await;
    let subscriber = fixture.subscriber();
    for _ in 0..2 {
        ok("S8: closing a subscriber, twice too, is Ok", subscriber.close()).await;
    }
    let error = refused("S8: a closed subscriber refuses", subscriber.subscribe(&fixture.topic)).await;
    equal("S8: a closed subscriber refuses with Closed", error.kind(), SubscribeErrorKind::Closed);
    require("S8: what is closed is not worth trying again", !error.is_retryable());

    let other = fixture.connect().await;
    let mut subscription = subscribe(&fixture.subscriber_of(&other), &fixture.topic).await;
    publish(&other.publisher, &fixture.topic, &[message("2")]).await;
    equal("S8: closing one subscriber closes no other", take(&mut subscription, 1).await.ids(), ["2"]);
    close(subscription).await;
}

/// S5, S8: closing a subscriber ends its subscriptions, and records what was settled.
pub async fn closing_a_subscriber_closes_its_subscriptions(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let messages = numbered(3);
    fixture.publish(&messages).await;
    let own = fixture.connect().await;
    let subscriber = fixture.subscriber_of(&own);
    let mut subscription = subscribe(&subscriber, &fixture.topic).await;
    let seen = take(&mut subscription, 1).await;
    ok("S8: a subscriber closes", subscriber.close()).await;
    ended("S5: closing a subscriber ends its streams", &mut subscription).await;
    equal("S5: a subscription that was closed says so", subscription.status().health, Health::Ended);
    close(subscription).await;
    let left: Vec<_> = messages.into_iter().filter(|m| !seen.ids().contains(&m.id().as_str())).collect();
    fixture.expect_left("S7: what was acked before closing does not come again", &left).await;
}

/// S5, S7: stopping intake ends the stream, and what is out can still be settled.
pub async fn what_is_out_can_be_settled_after_intake_has_stopped(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let messages = numbered(3);
    fixture.publish(&messages).await;
    let mut subscription = fixture.subscribe().await;
    equal("S5: without trouble it is healthy", subscription.status().health, Health::Healthy);
    let first = next(&mut subscription).await;
    let id = first.id().clone();
    subscription.stop_intake();
    ended("S5: a stream that was stopped ends", &mut subscription).await;
    ok("S4: what is out can be settled after intake has stopped", first.ack_confirmed()).await;
    close(subscription).await;
    let left: Vec<_> = messages.into_iter().filter(|message| *message.id() != id).collect();
    fixture.expect_left("S7: what was not handed out is left", &left).await;
}

/// S7: a graceful end causes no redelivery: what was acked does not come again, the rest comes once.
pub async fn a_graceful_stop_causes_no_redelivery(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let messages = numbered(60);
    fixture.publish(&messages).await;
    let mut acked = Collector::new();
    for _ in 0..3 {
        let mut subscription = fixture.subscribe().await;
        subscription.set_window(ordered(10));
        // Ten are in hand, six of them are acked without waiting for the confirmation.
        let mut held = hold(&mut subscription, 10).await;
        let rest = held.split_off(6);
        for delivery in held {
            acked.record(&delivery);
            delivery.ack();
        }
        close(subscription).await;
        // What is dropped or acked now is not this subscription's business any more.
        rest.into_iter().for_each(Delivery::ack);
    }
    let left: Vec<_> = messages.iter().filter(|message| !acked.seen().contains(message)).cloned().collect();
    equal("S7: what was acked before a graceful end does not come again", left.len(), 60 - 18);
    fixture.expect_left("S7: what was not acked comes once", &left).await;
}

/// S1, S7: a subscription that is dropped gives back what it had, and the next one gets everything.
pub async fn a_dropped_subscription_gives_back_what_it_had(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let messages = numbered(20);
    fixture.publish(&messages).await;
    let mut subscription = fixture.subscribe().await;
    subscription.set_window(ordered(5));
    let held = hold(&mut subscription, 5).await;
    drop(subscription);
    // The old owner's word does not count any more.
    held.into_iter().for_each(Delivery::ack);
    fixture.expect_left("S7, S10: after a drop, the old owner's acks do not count", &messages).await;
}

/// S7: a subscription that nobody reads closes, and keeps nothing for itself.
pub async fn an_unread_subscription_does_not_hold_up_closing(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let messages = numbered(20);
    let unread = fixture.subscribe().await;
    fixture.publish(&messages).await;
    close(unread).await;
    let own = fixture.connect().await;
    let subscriber = fixture.subscriber_of(&own);
    let unread = subscribe(&subscriber, &fixture.topic).await;
    ok("S8: a subscriber closes", subscriber.close()).await;
    drop(unread);
    fixture.expect_left("S7: what nobody read is left", &messages).await;
}

/// S1, S7: consumers that begin and end at the same time do not harm what is published then.
pub async fn consumers_that_close_side_by_side_lose_nothing(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    join_all((0..10).map(|_| async {
        let connection = fixture.connect().await;
        let subscription = subscribe(&fixture.subscriber_of(&connection), &fixture.topic).await;
        ok("S8: a subscriber closes", fixture.subscriber_of(&connection).close()).await;
        close(subscription).await;
        ok("P8: a publisher closes", connection.publisher.close()).await;
    }))
    .await;
    let messages = numbered(50);
    fixture.publish(&messages).await;
    fixture.expect_left("S1: consumers that come and go take nothing along", &messages).await;
}

/// S1, S7: twenty consumers one after the other, each with a part, and together they got everything
/// once.
pub async fn consumers_that_come_and_go_lose_nothing(backend: Arc<dyn Backend>) {
    const CONSUMERS: usize = 20;
    let fixture = Fixture::new(&backend).await;
    let messages = numbered(fixture.many(5_000));
    for call in messages.chunks(100) {
        fixture.publish(call).await;
    }
    let mut seen = Collector::new();
    for _ in 0..CONSUMERS {
        let connection = fixture.connect().await;
        let subscriber = fixture.subscriber_of(&connection);
        let mut subscription = subscribe(&subscriber, &fixture.topic).await;
        let part = (messages.len() / CONSUMERS).min(messages.len() - seen.seen().len());
        for message in take(&mut subscription, part).await.seen() {
            seen.record(message);
        }
        close(subscription).await;
        ok("S8: a subscriber closes", subscriber.close()).await;
    }
    let mut subscription = fixture.subscribe().await;
    for message in take(&mut subscription, messages.len() - seen.distinct()).await.seen() {
        seen.record(message);
    }
    quiet("S7: what was acked does not come again", &mut subscription).await;
    close(subscription).await;
    let ordering = if fixture.lacks(Lack::StableOwnership) { Ordering::None } else { fixture.ordering() };
    let duplicates = fixture.duplicates_of(CONSUMERS);
    with_duplicates("S7: a graceful end loses and repeats nothing", &seen, &messages, ordering, duplicates);
}

/// P2: what was published is there for whoever comes after publisher and subscriber are closed. Where
/// messages do not outlive the process, they outlive whoever publishes and subscribes in it.
pub async fn messages_stay_when_everybody_has_left(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let messages = numbered(10);
    fixture.publish(&messages).await;
    ok("P8: a publisher closes", fixture.publisher().close()).await;
    ok("S8: a subscriber closes", fixture.subscriber().close()).await;
    let other = fixture.connect().await;
    let mut subscription = subscribe(&fixture.subscriber_of(&other), &fixture.topic).await;
    let seen = take(&mut subscription, 10).await;
    close(subscription).await;
    exactly("P2: what was accepted stays when everybody has left", &seen, &messages, fixture.ordering());
}
