//! The figures of a relay, by the names that the daemon has for them.

use std::collections::{HashMap, HashSet};

use metrics::SharedString;
use tokio::time::Instant;
use watermill_core::router::Phase;
use watermill_forwarder::{ForwarderStatus, OutboxTime};

use super::{Look, gauges::Fold, outbox, subscription::age};
use crate::metrics::{
    list::{
        RELAY_ACTIVE, RELAY_BACKLOG, RELAY_DEAD_LETTERED, RELAY_FORWARDED, RELAY_HELD, RELAY_HELD_BACK,
        RELAY_IN_HAND, RELAY_OLDEST, RELAY_OUTBOX, RELAY_UP,
    },
    words::OTHER,
};

/// What was seen of a relay.
#[derive(Default)]
pub(super) struct Known {
    held_since: Option<Instant>,
    outbox: OutboxTime,
    /// Its destinations, by their labels.
    destinations: HashSet<SharedString>,
}

impl Look<'_> {
    pub(super) fn relay(&mut self, name: &str, status: &ForwarderStatus) {
        let relay = self.shared.name(name);
        let is_up = status.phase == Phase::Running;
        let is_active = is_up && status.source.active;
        let since = self.seen.relay.held_since;
        let since = status.source.held_back_by.is_some().then(|| since.unwrap_or_else(Instant::now));
        self.seen.relay.held_since = since;
        let held = since.map_or(0.0, |since| since.elapsed().as_secs_f64());
        for (metric, fold, value) in [
            (RELAY_UP, Fold::Max, f64::from(is_up)),
            (RELAY_ACTIVE, Fold::Max, f64::from(is_active)),
            (RELAY_IN_HAND, Fold::Sum, status.in_hand as f64),
            (RELAY_HELD_BACK, Fold::Max, held),
        ] {
            self.gauges.say(metric, &[&*relay], fold, value);
        }
        let lag = status.source.lag.map(|lag| lag as f64);
        self.gauges.say_if_known(RELAY_BACKLOG, &[&*relay], Fold::Sum, lag);
        self.gauges.say_if_known(RELAY_OLDEST, &[&*relay], Fold::Max, age(&status.source));

        let histogram = self.shared.histogram(RELAY_OUTBOX, &[&*relay]);
        outbox::record(&histogram, &self.seen.relay.outbox, &status.counts.outbox);
        self.seen.relay.outbox = status.counts.outbox;
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
        let known = self.seen.relay.destinations.drain().chain(forwarded.into_keys());
        let mut held: HashMap<SharedString, usize> = known.map(|destination| (destination, 0)).collect();
        for messages in &status.held {
            let destination = self.shared.topic(messages.destination.as_deref().unwrap_or_default());
            *held.entry(destination).or_default() += messages.messages;
        }
        for (destination, messages) in &held {
            self.gauges.say(RELAY_HELD, &[relay, &**destination], Fold::Sum, *messages as f64);
        }
        self.seen.relay.destinations.extend(held.into_keys());
    }
}
