//! Who owns a delivery: dead consumers, slow ones, and those that come back too late.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures::StreamExt;
use tokio::time;
use watermill_core::{Delivery, Subscription, delivery::Token, subscriber::Ordering};

use super::{
    fixture::{Fixture, close, hold, next, numbered, ordered, subscribe, take},
    obligation::{broken, equal, exactly, lost, ok, quiet, require, within},
    process::Process,
};
use crate::{Backend, Lack};

/// S10: what a subscription had in hand when it ended is lost and says so, and a late ack of it is neither
/// counted nor confirmed.
pub async fn after_the_end_the_old_owners_word_does_not_count(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let messages = numbered(6);
    fixture.publish(&messages).await;
    for closes in [false, true] {
        let mut subscription = fixture.subscribe().await;
        subscription.set_window(ordered(3));
        let held = hold(&mut subscription, 3).await;
        require("S10: what is in hand is not lost", held.iter().all(|delivery| !delivery.is_lost()));
        if closes {
            close(subscription).await;
        } else {
            drop(subscription);
        }
        require("S10: what was in hand at the end is lost", held.iter().all(Delivery::is_lost));
        let [acked, confirmed, nacked] = <[_; 3]>::try_from(held)
            .unwrap_or_else(|_| broken("S6: three are out and the window is three", "there are not"));
        acked.ack();
        lost("S10: after the end, the old owner's ack is not confirmed", confirmed.ack_confirmed()).await;
        nacked.nack();
    }
    fixture.expect_left("S10: after the end, the old owner's ack does not count", &messages).await;
}

/// S9: within a subscription no token is used twice: not after a nack, not for what was dropped, and not
/// for what comes after.
pub async fn no_token_is_used_twice(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let messages = numbered(10);
    fixture.publish(&messages).await;
    let mut subscription = fixture.subscribe().await;
    let mut tokens = HashSet::new();
    let mut acked = 0;
    for step in 0.. {
        let delivery = next(&mut subscription).await;
        once(&mut tokens, delivery.info().token());
        match step % 4 {
            0 => delivery.nack(),
            1 => drop(delivery),
            2 => delivery.nack_after(Duration::from_millis(1)),
            _ => {
                delivery.ack();
                acked += 1;
            }
        }
        if acked == messages.len() {
            break;
        }
    }
    close(subscription).await;
    fixture.expect_left("S1: what was acked does not come again", &[]).await;
}

/// S1: what a consumer had in hand when it died comes to others once its time is over.
pub async fn the_messages_of_a_dead_consumer_come_again(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let Some((mut process, mut consumer, _)) = start_consumer(&fixture).await else { return };
    let messages = numbered(3);
    fixture.publish(&messages).await;
    let (_consumer, _held) = process
        .run(async move {
            consumer.set_window(ordered(2));
            let held = hold(&mut consumer, 2).await;
            (consumer, held)
        })
        .await;
    process.stop().await;

    let mut heir = fixture.subscribe().await;
    let seen = take(&mut heir, messages.len()).await;
    quiet("S1: each comes once to who takes over", &mut heir).await;
    close(heir).await;
    exactly("S1: what a dead consumer had comes again", &seen, &messages, fixture.ordering());
    process.resume();
}

/// S10: a consumer that hung for longer than its time finds what it had lost, and neither its ack nor its
/// nack touches the new owner's delivery. S9: what it gets then has tokens of its own.
pub async fn what_was_taken_over_is_lost_to_who_had_it(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let Some((mut process, mut sleeper, _)) = start_consumer(&fixture).await else { return };
    let messages = numbered(4);
    fixture.publish(&messages[..2]).await;
    let (mut sleeper, held) = process
        .run(async move {
            sleeper.set_window(ordered(2));
            let held = hold(&mut sleeper, 2).await;
            (sleeper, held)
        })
        .await;
    process.stop().await;
    let mut heir = fixture.subscribe().await;
    heir.set_window(ordered(2));
    let taken_over = hold(&mut heir, 2).await;

    process.resume();
    let mut tokens: HashSet<_> = held.iter().map(|delivery| delivery.info().token()).collect();
    for delivery in &held {
        let told = delivery.cancellation();
        within("S10: whoever works for a lost delivery is told", told.cancelled()).await;
        require("S10: a delivery that was taken over is lost", delivery.is_lost());
    }
    for (place, delivery) in held.into_iter().enumerate() {
        if place == 0 {
            let acked = process.run(delivery.ack_confirmed()).await;
            lost("S10: a late ack is not confirmed", async { acked }).await;
        } else {
            process.run(async move { delivery.nack() }).await;
        }
    }
    quiet("S10: a late nack does not bring a message again", &mut heir).await;
    for delivery in taken_over {
        require("S10: the new owner keeps its delivery", !delivery.is_lost());
        ok("S10: a late word does not touch the new owner's", delivery.ack_confirmed()).await;
    }
    close(heir).await;

    fixture.publish(&messages[2..]).await;
    let (sleeper, again) = process
        .run(async move {
            let again = [recovered(&mut sleeper).await, recovered(&mut sleeper).await];
            (sleeper, again)
        })
        .await;
    for (delivery, message) in again.into_iter().zip(&messages[2..]) {
        if fixture.ordering() != Ordering::None {
            equal("S1: what the new owner acked does not come again", delivery.id(), message.id());
        }
        once(&mut tokens, delivery.info().token());
        process.run(async move { ok("S4: an ack can be confirmed", delivery.ack_confirmed()).await }).await;
    }
    process.run(close(sleeper)).await;
    fixture.expect_left("S1: what was acked does not come again", &[]).await;
}

/// S1, S10: a handler that takes longer than its time keeps its message, for its consumer lives.
pub async fn a_handler_that_outlives_the_timeout_keeps_its_message(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let Some((process, mut consumer, timeout)) = start_consumer(&fixture).await else { return };
    fixture.publish(&numbered(1)).await;
    let (consumer, held) = process
        .run(async move {
            let held = next(&mut consumer).await;
            (consumer, held)
        })
        .await;
    let mut other = fixture.subscribe().await;
    let long = 3 * timeout;
    if fixture.lacks(Lack::StableOwnership) {
        // A second consumer may be given what the first one has, so there is none.
        close(other).await;
        time::sleep(long).await;
    } else {
        if let Ok(next) = time::timeout(long, other.next()).await {
            broken("S1: while its consumer lives a message goes to nobody else", format_args!("{next:?}"));
        }
        close(other).await;
    }
    require("S10: what a living consumer has in hand is not lost", !held.is_lost());
    let acked = process.run(held.ack_confirmed()).await;
    ok("S4: an ack counts however long it took", async { acked }).await;
    process.run(close(consumer)).await;
    fixture.expect_left("S1: what was acked does not come again", &[]).await;
}

/// A consumer in a process of its own and its timeout; or nothing, where the backend says that a dead one
/// is not noticed.
async fn start_consumer(fixture: &Fixture) -> Option<(Process, Subscription, Duration)> {
    let started = Process::start(&fixture.backend).await;
    let noticed =
        "S1: a dead consumer is noticed after a time (`Backend::connect_with_timeout`), or it is a lack";
    equal(noticed, started.is_some(), !fixture.lacks(Lack::ConsumerTimeout));
    let (process, connection, timeout) = started?;
    let (subscriber, topic) = (fixture.subscriber_of(&connection), fixture.topic.clone());
    let subscription = process.run(async move { subscribe(&subscriber, &topic).await }).await;
    Some((process, subscription, timeout))
}

/// The next delivery of a subscription that has met trouble and mends it.
async fn recovered(subscription: &mut Subscription) -> Delivery {
    loop {
        match within("S5: a subscription recovers by itself", subscription.next()).await {
            Some(Ok(delivery)) => return delivery,
            Some(Err(error)) => require("S5: trouble that passes can be retried", error.is_retryable()),
            None => broken("S5: the stream goes on", "it ended"),
        }
    }
}

fn once(tokens: &mut HashSet<Token>, token: Token) {
    if !tokens.insert(token) {
        broken("S9: no token is used twice", format_args!("{token:?} is"));
    }
}
