//! Backends that remember nothing: what is published reaches whoever subscribes just then, once or not at
//! all (core NATS, the channels of Redis), or somebody outside (a webhook).

use std::sync::Arc;

use watermill_core::{
    delivery::Outcome,
    subscriber::{DeliveryGuarantee, Ordering},
};

use super::{
    fixture::{Consumers, Fixture, close, message, next, numbered, publish, subscribe, take},
    obligation::{NACK, equal, exactly, groups_refused, ok, quiet, require},
};
use crate::Backend;

/// S1: what remembers nothing claims nothing that needs a memory, and groups only if it has them.
pub async fn what_forgets_claims_no_memory(backend: Arc<dyn Backend>) {
    let fixture = Fixture::bare(&backend).await;
    let capabilities = fixture.capabilities();
    let guarantee = DeliveryGuarantee::AtMostOnce;
    equal("S1: this part of the suite is for at-most-once delivery", capabilities.delivery, guarantee);
    require("S1: what forgets is not persistent", !capabilities.persistent);
    require("S1: what forgets has no dead letters", !capabilities.dead_letters);
    require("S1: what forgets does not wait for the delay of a nack", !capabilities.nack_delay);
    require("S1: what forgets counts no attempts", !capabilities.attempts);
    if !capabilities.groups {
        groups_refused("S1: a backend without groups refuses them", &*fixture.subscriber());
    }
}

/// S1: without groups every subscription gets every message; the members of a group share them.
pub async fn every_subscription_gets_every_message_unless_a_group_shares_them(backend: Arc<dyn Backend>) {
    let fixture = Fixture::bare(&backend).await;
    let messages = numbered(50);
    let mut consumers = Consumers::start(&fixture.subscriber(), &fixture.topic, 1).await;
    let mut copies = Vec::new();
    if fixture.capabilities().groups {
        consumers.add(&fixture.subscriber(), &fixture.topic, 2).await;
    } else {
        for _ in 0..2 {
            let other = fixture.connect().await;
            copies.push(Consumers::start(&fixture.subscriber_of(&other), &fixture.topic, 1).await);
        }
    }
    copies.push(consumers);
    fixture.publish(&messages).await;
    for consumers in copies {
        let seen = consumers.finish(messages.len()).await;
        exactly("S1: every subscriber gets every message once", &seen, &messages, Ordering::None);
    }
}

/// S1: what nobody has subscribed to is gone, and whoever subscribes gets what is published from then on.
pub async fn what_was_published_to_nobody_is_gone(backend: Arc<dyn Backend>) {
    let fixture = Fixture::bare(&backend).await;
    fixture.publish(&[message("1")]).await;
    let mut subscription = subscribe(&fixture.subscriber(), &fixture.topic).await;
    quiet("S1: what was published to nobody is gone", &mut subscription).await;
    fixture.publish(&[message("2")]).await;
    equal("S1: a subscription gets what is published from then on", next(&mut subscription).await.id(), "2");
    close(subscription).await;
}

/// S1, S4: whatever a delivery is settled with it does not come again, and every receipt is complete.
pub async fn settling_brings_nothing_again_and_every_receipt_is_complete(backend: Arc<dyn Backend>) {
    let fixture = Fixture::bare(&backend).await;
    let mut subscription = subscribe(&fixture.subscriber(), &fixture.topic).await;
    fixture.publish(&numbered(5)).await;
    let reject = Outcome::Reject { reason: "it cannot be processed".to_owned() };
    for outcome in [Outcome::Ack, NACK, reject] {
        ok("S4: every receipt is complete", next(&mut subscription).await.settle_confirmed(outcome)).await;
    }
    drop(next(&mut subscription).await);
    next(&mut subscription).await.ack();
    quiet("S1: what is delivered at most once does not come again", &mut subscription).await;
    close(subscription).await;
}

/// S7: who leaves takes nothing from those who stay.
pub async fn a_subscription_that_ends_takes_nothing_from_others(backend: Arc<dyn Backend>) {
    let fixture = Fixture::bare(&backend).await;
    let mut stays = subscribe(&fixture.subscriber(), &fixture.topic).await;
    for closes in [true, false] {
        let other = fixture.connect().await;
        let leaves = subscribe(&fixture.subscriber_of(&other), &fixture.topic).await;
        if closes {
            close(leaves).await;
        } else {
            drop(leaves);
        }
        publish(&other.publisher, &fixture.topic, &[message("1")]).await;
        equal("S7: who stays gets what is published", take(&mut stays, 1).await.ids(), ["1"]);
    }
    close(stays).await;
}

/// P2: a backend without a subscriber says what arrived instead.
pub async fn what_only_publishes_has_no_subscriber(backend: Arc<dyn Backend>) {
    let connection = backend.connect().await;
    require("P2: this part of the suite is for what only publishes", connection.subscriber.is_none());
    let topic = backend.topic(&crate::unique("topic"));
    let nothing = backend.received(&topic).await;
    equal("P2: nothing arrives that was not published", nothing.len(), 0);
}
