//! Windows: how much is handed out, in each scope and in all.

use std::{num::NonZeroUsize, sync::Arc};

use watermill_core::Delivery;

use super::{
    fixture::{Fixture, close, hold, hold_all, keyed, next, numbered, ordered, take},
    obligation::{exactly, quiet, require},
};
use crate::{Backend, Collector};

/// S2, S6: a window hands out as many as it says, in each scope, and no more.
pub async fn a_wider_window_hands_out_more(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let messages = numbered(10);
    fixture.publish(&messages).await;
    let mut subscription = fixture.subscribe().await;
    subscription.set_window(ordered(3));
    let mut held = hold(&mut subscription, 3).await;
    if fixture.is_ordered() {
        quiet("S6: three are out and the window is three", &mut subscription).await;
    }
    let mut seen = Collector::from_iter(held.iter().map(|delivery| delivery.message()));
    held.remove(0).ack();
    let fourth = next(&mut subscription).await;
    seen.record(&fourth);
    fourth.ack();
    held.into_iter().for_each(Delivery::ack);
    for message in take(&mut subscription, 6).await.seen() {
        seen.record(message);
    }
    close(subscription).await;
    exactly("S6: a window loses nothing", &seen, &messages, fixture.ordering());
    fixture.expect_left("S1: what was acked does not come again", &[]).await;
}

/// S6: however much there is, no more is handed out than the window allows; every settlement lets one
/// more through.
pub async fn no_more_is_out_than_the_window_allows(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let messages = numbered(200);
    fixture.publish(&messages).await;
    let mut subscription = fixture.subscribe().await;
    subscription.set_window(ordered(5));
    let mut out = hold(&mut subscription, 5).await;
    let mut seen = Collector::from_iter(out.iter().map(Delivery::message));
    for step in 0..195 {
        // Looking takes its time, so it looks now and then.
        if step % 65 == 0 && fixture.is_ordered() {
            quiet("S6: five are out and the window is five", &mut subscription).await;
        }
        out.remove(0).ack();
        let more = next(&mut subscription).await;
        seen.record(&more);
        out.push(more);
    }
    out.into_iter().for_each(Delivery::ack);
    close(subscription).await;
    exactly("S6: a window loses nothing", &seen, &messages, fixture.ordering());
}

/// S6: over all scopes together no more is outstanding than the window's total.
pub async fn the_total_bounds_all_scopes_together(backend: Arc<dyn Backend>) {
    const TOTAL: usize = 3;
    let fixture = Fixture::new(&backend).await;
    let messages = keyed(40, 8);
    let mut subscription = fixture.subscribe().await;
    subscription.set_window(ordered(2).with_total(total(TOTAL)));
    fixture.publish(&messages).await;
    let mut seen = Collector::new();
    while seen.seen().len() < messages.len() {
        let out = hold_all(&mut subscription).await;
        require("S6: no more is outstanding than the total", out.len() <= TOTAL);
        for delivery in out {
            seen.record(&delivery);
            delivery.ack();
        }
    }
    close(subscription).await;
    exactly("S6: a total loses nothing", &seen, &messages, fixture.ordering());
}

/// S6: what is handled counts against the total still, and not any more in its scope.
pub async fn what_is_handled_makes_room_in_its_scope_and_not_in_all(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let messages = numbered(5);
    let mut subscription = fixture.subscribe().await;
    subscription.set_window(ordered(1).with_total(total(3)));
    fixture.publish(&messages).await;
    let mut seen = Collector::new();
    let mut handled = Vec::new();
    for _ in 0..3 {
        let delivery = next(&mut subscription).await;
        seen.record(&delivery);
        if fixture.is_ordered() {
            quiet("S6: one is being handled and the window is one", &mut subscription).await;
        }
        let (_, settlement) = delivery.split();
        settlement.handled();
        // Once more changes nothing.
        settlement.handled();
        handled.push(settlement);
    }
    quiet("S6: three are outstanding and the total is three, handled or not", &mut subscription).await;
    handled.remove(0).ack();
    let fourth = next(&mut subscription).await;
    seen.record(&fourth);
    quiet("S6: the window is full again", &mut subscription).await;
    handled.into_iter().for_each(watermill_core::Settlement::ack);
    fourth.ack();
    for message in take(&mut subscription, 1).await.seen() {
        seen.record(message);
    }
    close(subscription).await;
    exactly("S6: what was handled can be acked in any order", &seen, &messages, fixture.ordering());
    fixture.expect_left("S1: what was acked does not come again", &[]).await;
}

fn total(total: usize) -> NonZeroUsize {
    NonZeroUsize::new(total).unwrap_or(NonZeroUsize::MIN)
}
