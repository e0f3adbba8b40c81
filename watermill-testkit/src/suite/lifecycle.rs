//! Beginning and ending: subscriptions that come and go, and what is closed.

use std::sync::Arc;

use futures::{StreamExt, future::join_all};
use watermill_core::{
    Delivery,
    error::{PublishErrorKind, SubscribeErrorKind},
    subscriber::Ordering,
    subscription::Health,
};

use super::stage::{
    Stage, close, hold, message, next, numbered, ok, ordered, quiet, subscribe, take, within,
};
use crate::{Backend, Collector, Lack};

/// P8, S8: what is closed refuses with `Closed`, and closing twice is `Ok`.
pub async fn what_is_closed_refuses(backend: Arc<dyn Backend>) {
    let stage = Stage::new(&backend).await;
    let (publisher, subscriber) = (stage.publisher(), stage.subscriber());
    for _ in 0..2 {
        ok("close the publisher", publisher.close()).await;
        ok("close the subscriber", subscriber.close()).await;
    }
    let error = within("publish", publisher.publish(&stage.topic, vec![message("1")])).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Closed);
    assert!(!error.is_retryable());
    let error = within("subscribe", subscriber.subscribe(&stage.topic)).await.unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Closed);
    assert!(!error.is_retryable());

    // Others are not touched.
    let other = stage.connect().await;
    let mut subscription = subscribe(&stage.subscriber_of(&other), &stage.topic).await;
    super::stage::publish(&other.publisher, &stage.topic, &[message("2")]).await;
    assert_eq!(take(&mut subscription, 1).await.ids(), ["2"]);
    close(subscription).await;
}

/// S5, S8: closing a subscriber ends its subscriptions, and records what was settled.
pub async fn closing_a_subscriber_closes_its_subscriptions(backend: Arc<dyn Backend>) {
    let stage = Stage::new(&backend).await;
    let messages = numbered(3);
    stage.publish(&messages).await;
    let own = stage.connect().await;
    let subscriber = stage.subscriber_of(&own);
    let mut subscription = subscribe(&subscriber, &stage.topic).await;
    let seen = take(&mut subscription, 1).await;
    ok("close the subscriber", subscriber.close()).await;
    assert!(within("the stream ends", subscription.next()).await.is_none());
    assert_eq!(subscription.status().health, Health::Ended);
    close(subscription).await;
    let left: Vec<_> = messages.into_iter().filter(|m| *m.id() != *seen.seen()[0].id()).collect();
    stage.expect_left(&left).await;
}

/// S5, S7: stopping intake ends the stream, and what is out can still be settled.
pub async fn what_is_out_can_be_settled_after_intake_has_stopped(backend: Arc<dyn Backend>) {
    let stage = Stage::new(&backend).await;
    let messages = numbered(3);
    stage.publish(&messages).await;
    let mut subscription = stage.subscribe().await;
    assert_eq!(subscription.status().health, Health::Healthy);
    let first = next(&mut subscription).await;
    let id = first.id().clone();
    subscription.stop_intake();
    assert!(within("the stream ends", subscription.next()).await.is_none());
    ok("confirm the ack", first.ack_confirmed()).await;
    close(subscription).await;
    let left: Vec<_> = messages.into_iter().filter(|message| *message.id() != id).collect();
    stage.expect_left(&left).await;
}

/// S7: a graceful end causes no redelivery: what was acked does not come again, the rest comes once.
pub async fn a_graceful_stop_causes_no_redelivery(backend: Arc<dyn Backend>) {
    let stage = Stage::new(&backend).await;
    let messages = numbered(60);
    stage.publish(&messages).await;
    let mut acked = Collector::new();
    for _ in 0..3 {
        let mut subscription = stage.subscribe().await;
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
    assert_eq!(left.len(), 60 - 18, "acked messages came again: {:?}", acked.ids());
    stage.expect_left(&left).await;
}

/// S1, S7: a subscription that is dropped gives back what it had, and the next one gets everything.
pub async fn a_dropped_subscription_gives_back_what_it_had(backend: Arc<dyn Backend>) {
    let stage = Stage::new(&backend).await;
    let messages = numbered(20);
    stage.publish(&messages).await;
    let mut subscription = stage.subscribe().await;
    subscription.set_window(ordered(5));
    let held = hold(&mut subscription, 5).await;
    drop(subscription);
    // The old owner's word does not count any more.
    held.into_iter().for_each(Delivery::ack);
    stage.expect_left(&messages).await;
}

/// S7: a subscription that nobody reads closes, and keeps nothing for itself.
pub async fn an_unread_subscription_does_not_hold_up_closing(backend: Arc<dyn Backend>) {
    let stage = Stage::new(&backend).await;
    let messages = numbered(20);
    let unread = stage.subscribe().await;
    stage.publish(&messages).await;
    close(unread).await;
    let own = stage.connect().await;
    let subscriber = stage.subscriber_of(&own);
    let unread = subscribe(&subscriber, &stage.topic).await;
    ok("close the subscriber", subscriber.close()).await;
    drop(unread);
    stage.expect_left(&messages).await;
}

/// S1, S7: consumers that begin and end at the same time do not harm what is published then.
pub async fn consumers_that_close_side_by_side_lose_nothing(backend: Arc<dyn Backend>) {
    let stage = Stage::new(&backend).await;
    join_all((0..10).map(|_| async {
        let connection = stage.connect().await;
        let subscription = subscribe(&stage.subscriber_of(&connection), &stage.topic).await;
        ok("close the subscriber", stage.subscriber_of(&connection).close()).await;
        close(subscription).await;
        ok("close the publisher", connection.publisher.close()).await;
    }))
    .await;
    let messages = numbered(50);
    stage.publish(&messages).await;
    stage.expect_left(&messages).await;
}

/// S1, S7: twenty consumers one after the other, each with a part, and together they got everything
/// once.
pub async fn consumers_that_come_and_go_lose_nothing(backend: Arc<dyn Backend>) {
    const CONSUMERS: usize = 20;
    let stage = Stage::new(&backend).await;
    let messages = numbered(stage.many(5_000));
    for call in messages.chunks(100) {
        stage.publish(call).await;
    }
    let mut seen = Collector::new();
    for _ in 0..CONSUMERS {
        let connection = stage.connect().await;
        let subscriber = stage.subscriber_of(&connection);
        let mut subscription = subscribe(&subscriber, &stage.topic).await;
        let part = (messages.len() / CONSUMERS).min(messages.len() - seen.seen().len());
        for message in take(&mut subscription, part).await.seen() {
            seen.record(message);
        }
        close(subscription).await;
        ok("close the subscriber", subscriber.close()).await;
    }
    let mut subscription = stage.subscribe().await;
    for message in take(&mut subscription, messages.len() - seen.distinct()).await.seen() {
        seen.record(message);
    }
    quiet(&mut subscription).await;
    close(subscription).await;
    let ordering = if stage.lacks(Lack::StableOwnership) { Ordering::None } else { stage.ordering() };
    seen.assert_with_duplicates(&messages, ordering, stage.duplicates_of(CONSUMERS));
}

/// P2: what was published is there for whoever comes after publisher and subscriber are closed.
pub async fn messages_stay_when_everybody_has_left(backend: Arc<dyn Backend>) {
    let stage = Stage::new(&backend).await;
    let persistent = stage.connection.subscriber.capabilities().persistent;
    assert_eq!(persistent, !stage.lacks(Lack::Persistence), "the capability and the list of lacks");
    let messages = numbered(10);
    stage.publish(&messages).await;
    ok("close the publisher", stage.publisher().close()).await;
    ok("close the subscriber", stage.subscriber().close()).await;
    let other = stage.connect().await;
    let mut subscription = subscribe(&stage.subscriber_of(&other), &stage.topic).await;
    take(&mut subscription, 10).await.assert_exactly(&messages, stage.ordering());
    close(subscription).await;
}
