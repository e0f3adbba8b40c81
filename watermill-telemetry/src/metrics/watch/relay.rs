//! The figures of a relay, by the names that the daemon has for them.

use std::collections::HashMap;

use metrics::SharedString;
use tokio::time::Instant;
use watermill_core::{router::Phase, subscription::Health};
use watermill_forwarder::ForwarderStatus;

use super::{Look, subscription::age};
use crate::metrics::{
    list::{
        RELAY_ACTIVE, RELAY_BACKLOG, RELAY_DEAD_LETTERED, RELAY_FORWARDED, RELAY_HELD, RELAY_HELD_BACK,
        RELAY_IN_HAND, RELAY_OLDEST, RELAY_UP,
    },
    shared::OTHER,
};

impl Look<'_> {
    pub(super) fn relay(&mut self, name: &str, status: &ForwarderStatus) {
        let relay = self.shared.name(name);
        let is_up = status.phase == Phase::Running;
        let is_active = is_up && status.source.health == Health::Healthy;
        self.gauge(RELAY_UP, &[&*relay]).set(f64::from(is_up));
        self.gauge(RELAY_ACTIVE, &[&*relay]).set(f64::from(is_active));
        self.gauge(RELAY_IN_HAND, &[&*relay]).set(status.in_hand as f64);
        let mut known = self.seen.subscriptions.get(name).copied().unwrap_or_default();
        known.is_healthy = is_active;
        let lag = status.source.lag.map(|lag| lag as f64);
        self.while_known(RELAY_BACKLOG, &[&*relay], lag, &mut known.has_lag);
        self.while_known(RELAY_OLDEST, &[&*relay], age(&status.source), &mut known.has_age);
        let since = known.held_since;
        known.held_since = status.source.held_back_by.is_some().then(|| since.unwrap_or_else(Instant::now));
        let held = known.held_since.map_or(0.0, |since| since.elapsed().as_secs_f64());
        self.gauge(RELAY_HELD_BACK, &[&*relay]).set(held);
        self.seen.subscriptions.insert(name.to_owned(), known);

        self.destinations(name, &relay, status);
        for (reason, total) in &status.counts.dead_letter_reasons {
            self.total(name, RELAY_DEAD_LETTERED, &[&*relay, *reason], *total);
        }
    }

    /// Destinations beyond the bound are one.
    fn destinations(&mut self, name: &str, relay: &str, status: &ForwarderStatus) {
        let mut forwarded: HashMap<SharedString, u64> = HashMap::new();
        for (destination, report) in &status.counts.destinations {
            *forwarded.entry(self.shared.topic(destination)).or_default() += report.forwarded;
        }
        // Those that the report does not count one by one.
        let others = status.counts.forwarded.saturating_sub(forwarded.values().sum());
        if others > 0 {
            *forwarded.entry(OTHER.into()).or_default() += others;
        }
        for (destination, forwarded) in &forwarded {
            self.total(name, RELAY_FORWARDED, &[relay, &**destination], *forwarded);
        }

        // Where something was held, nothing may be any more.
        let known = self.seen.held.drain().chain(forwarded.into_keys());
        let mut held: HashMap<SharedString, usize> = known.map(|destination| (destination, 0)).collect();
        for messages in &status.held {
            let destination = self.shared.topic(messages.destination.as_deref().unwrap_or_default());
            *held.entry(destination).or_default() += messages.messages;
        }
        for (destination, messages) in &held {
            self.gauge(RELAY_HELD, &[relay, &**destination]).set(*messages as f64);
        }
        self.seen.held.extend(held.into_keys());
    }
}
