//! The figures of a relay, by the names that the daemon has for them.

use std::collections::HashMap;

use metrics::SharedString;
use tokio::time::Instant;
use watermill_core::{router::Phase, subscription::Health};
use watermill_forwarder::ForwarderStatus;

use super::{
    Look,
    subscription::{Known, age},
};
use crate::metrics::list::{
    RELAY_ACTIVE, RELAY_BACKLOG, RELAY_DEAD_LETTERED, RELAY_FORWARDED, RELAY_HELD, RELAY_HELD_BACK,
    RELAY_IN_HAND, RELAY_OLDEST, RELAY_UP,
};

impl Look<'_> {
    pub(super) fn relay(&mut self, name: &str, status: &ForwarderStatus) {
        let relay = self.shared.name(name);
        let is_up = status.phase == Phase::Running;
        let is_active = is_up && status.source.health == Health::Healthy;
        self.gauge(RELAY_UP, &[&*relay]).set(f64::from(is_up));
        self.gauge(RELAY_ACTIVE, &[&*relay]).set(f64::from(is_active));
        self.gauge(RELAY_IN_HAND, &[&*relay]).set(status.in_hand as f64);
        if let Some(lag) = status.source.lag {
            self.gauge(RELAY_BACKLOG, &[&*relay]).set(lag as f64);
        }
        if let Some(age) = age(&status.source) {
            self.gauge(RELAY_OLDEST, &[&*relay]).set(age);
        }
        let before = self.seen.subscriptions.get(name).and_then(|known| known.held_since);
        let held_since = status.source.held_back_by.is_some().then(|| before.unwrap_or_else(Instant::now));
        let held = held_since.map_or(0.0, |since| since.elapsed().as_secs_f64());
        self.gauge(RELAY_HELD_BACK, &[&*relay]).set(held);
        let known = Known { is_healthy: is_active, held_since, ..Known::default() };
        self.seen.subscriptions.insert(name.to_owned(), known);

        self.destinations(name, &relay, status);
        for (reason, total) in &status.counts.dead_letter_reasons {
            self.total(name, RELAY_DEAD_LETTERED, &[&*relay, *reason], *total);
        }
    }

    /// Destinations beyond the bound are one.
    fn destinations(&mut self, name: &str, relay: &str, status: &ForwarderStatus) {
        let mut figures: HashMap<SharedString, (u64, usize)> = HashMap::new();
        for (destination, report) in &status.counts.destinations {
            figures.entry(self.shared.topic(destination)).or_default().0 += report.forwarded;
        }
        for held in &status.held {
            let destination = held.destination.as_deref().unwrap_or_default();
            figures.entry(self.shared.topic(destination)).or_default().1 += held.messages;
        }
        for (destination, (forwarded, held)) in figures {
            self.total(name, RELAY_FORWARDED, &[relay, &*destination], forwarded);
            self.gauge(RELAY_HELD, &[relay, &*destination]).set(held as f64);
        }
    }
}
