//! What a subscription says of itself.

use std::sync::Arc;

use watermill_core::{
    Subscriber,
    subscription::{Health, SubscriptionStatus},
};

use super::{
    fixture::{Fixture, close, hold, numbered, ordered, subscribe},
    obligation::{equal, ok, require},
};
use crate::Backend;

/// S5: a status says what is outstanding, whether it is well and when it has ended, and a subscriber and
/// its subscription say the same.
pub async fn a_subscription_tells_how_it_is_doing(backend: Arc<dyn Backend>) {
    let fixture = Fixture::bare(&backend).await;
    let subscriber = fixture.subscriber();
    let mut subscription = subscribe(&subscriber, &fixture.topic).await;
    let control = subscription.control();
    subscription.set_window(ordered(2));
    let status = agreed(&*subscriber, &subscription.status());
    equal("S5: without trouble it is healthy", status.health, Health::Healthy);
    equal("S5: nothing is outstanding before anything came", status.outstanding, 0);
    equal("S5: a status names its topic", &status.topic, &fixture.topic);

    fixture.publish(&numbered(3)).await;
    let mut held = hold(&mut subscription, 2).await;
    equal("S5: a status names its group", status.group.as_deref(), held[0].info().group());
    let status = agreed(&*subscriber, &subscription.status());
    // Without order more may have been handed out, but two are for certain.
    require("S5: what is handed out is outstanding", status.outstanding >= 2);
    let before = status.outstanding;
    ok("S4: an ack can be confirmed", held.remove(0).ack_confirmed()).await;
    let status = agreed(&*subscriber, &subscription.status());
    equal("S5: what is settled is not outstanding any more", status.outstanding, before - 1);

    close(subscription).await;
    let status = control.status();
    equal("S5: a subscription that was closed says so", status.health, Health::Ended);
    equal("S5: a subscription that was closed has nothing outstanding", status.outstanding, 0);
    let running = subscriber.status().into_iter().filter(|status| status.health != Health::Ended).count();
    equal("S5: a subscriber tells of no subscription that was closed", running, 0);
}

/// What both say.
fn agreed(subscriber: &dyn Subscriber, own: &SubscriptionStatus) -> SubscriptionStatus {
    let known = subscriber.status();
    equal("S5: a subscriber tells of each subscription that runs", known.len(), 1);
    let status = known.into_iter().next().unwrap_or_else(|| own.clone());
    let facts = |status: &SubscriptionStatus| {
        (status.topic.clone(), status.group.clone(), status.health.clone(), status.outstanding)
    };
    equal("S5: a subscriber and its subscription say the same", facts(&status), facts(own));
    status
}
