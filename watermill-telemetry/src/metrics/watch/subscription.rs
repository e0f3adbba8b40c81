//! The figures of subscriptions.

use std::collections::BTreeMap;

use tokio::time::Instant;
use watermill_core::{
    HandlerInfo,
    subscription::{Health, SubscriptionStatus},
};

use super::{Look, REMEMBERED_MAX, gauges::Fold};
use crate::metrics::{
    list::{
        SUBSCRIPTION_CHANGES, SUBSCRIPTION_HEALTHY, SUBSCRIPTION_HELD_BACK, SUBSCRIPTION_LAG,
        SUBSCRIPTION_OLDEST, SUBSCRIPTION_OUTSTANDING,
    },
    words::OTHER,
};

/// What was seen of the subscriptions to a topic.
#[derive(Clone, Copy, Default)]
pub(super) struct Known {
    is_healthy: bool,
    held_since: Option<Instant>,
}

/// Whose they are: the handler and the subscriber, the topic and the consumer group.
pub(super) type Whose = (String, String, String, Option<String>);

/// What the subscriptions of one group to one topic say together: one of them is enough to read it.
#[derive(Default)]
struct Together {
    is_healthy: bool,
    is_held_back: bool,
    outstanding: usize,
    lag: Option<u64>,
    oldest: Option<f64>,
}

impl Look<'_> {
    /// All that a subscriber has just now.
    pub(super) fn subscriptions(&mut self, handler: &str, subscriber: &str, statuses: &[SubscriptionStatus]) {
        let mut by_topic = BTreeMap::<Whose, Together>::new();
        for status in statuses {
            let whose = (handler.into(), subscriber.into(), status.topic.clone(), status.group.clone());
            by_topic.entry(whose).or_default().add(status);
        }
        for (whose, together) in by_topic {
            self.together(whose, &together);
        }
    }

    fn together(&mut self, whose: Whose, now: &Together) {
        let labels = self.labels(&whose);
        let labels = labels.each_ref().map(|label| &**label);
        let before = self.seen.subscriptions.get(&whose).copied();
        // The first look is no change.
        let changes = u64::from(before.is_some_and(|before| before.is_healthy != now.is_healthy));
        self.shared.counter(SUBSCRIPTION_CHANGES, &labels).increment(changes);

        let held_since = before.and_then(|before| before.held_since);
        let held_since = now.is_held_back.then(|| held_since.unwrap_or_else(Instant::now));
        let held = held_since.map_or(0.0, |since| since.elapsed().as_secs_f64());
        self.gauges.say(SUBSCRIPTION_HEALTHY, &labels, Fold::Min, f64::from(now.is_healthy));
        self.gauges.say(SUBSCRIPTION_OUTSTANDING, &labels, Fold::Sum, now.outstanding as f64);
        self.gauges.say(SUBSCRIPTION_HELD_BACK, &labels, Fold::Max, held);
        let lag = now.lag.map(|lag| lag as f64);
        self.gauges.say_if_known(SUBSCRIPTION_LAG, &labels, Fold::Sum, lag);
        self.gauges.say_if_known(SUBSCRIPTION_OLDEST, &labels, Fold::Max, now.oldest);
        self.seen.subscriptions.insert(whose, Known { is_healthy: now.is_healthy, held_since });
    }

    /// Of a subscriber without a router: those that it had and has no more have ended. How much they have left behind nobody
    /// knows any more.
    pub(super) fn subscriptions_ended(&mut self, statuses: &[SubscriptionStatus]) {
        let ended = self.seen.subscriptions.keys().filter(|(_, _, topic, group)| {
            !statuses.iter().any(|status| status.topic == *topic && status.group == *group)
        });
        for whose in ended.cloned().collect::<Vec<_>>() {
            let labels = self.labels(&whose);
            let is_beyond = &*labels[2] == OTHER;
            let labels = labels.each_ref().map(|label| &**label);
            let was_healthy = self.seen.subscriptions.get(&whose).is_some_and(|known| known.is_healthy);
            self.shared.counter(SUBSCRIPTION_CHANGES, &labels).increment(was_healthy.into());
            self.gauges.say(SUBSCRIPTION_HEALTHY, &labels, Fold::Min, 0.0);
            self.gauges.say(SUBSCRIPTION_OUTSTANDING, &labels, Fold::Sum, 0.0);
            self.gauges.say(SUBSCRIPTION_HELD_BACK, &labels, Fold::Max, 0.0);
            self.gauges.say_if_known(SUBSCRIPTION_LAG, &labels, Fold::Sum, None);
            self.gauges.say_if_known(SUBSCRIPTION_OLDEST, &labels, Fold::Max, None);
            // Said again and again, for those that share its labels. Of as many as there are topics, and of so many groups.
            if is_beyond || self.seen.subscriptions.len() > REMEMBERED_MAX {
                self.seen.subscriptions.remove(&whose);
            } else {
                self.seen.subscriptions.insert(whose, Known::default());
            }
        }
    }

    /// Of a handler that has ended. What it has left behind when it failed still waits, and nobody knows how much; of one
    /// that was stopped nobody is to hear any more.
    pub(super) fn handlers_subscription_ended(&mut self, info: &HandlerInfo, has_failed: bool) {
        let is_its = |(handler, ..): &Whose| *handler == info.name;
        let ended: Vec<Whose> =
            self.seen.subscriptions.keys().filter(|whose| is_its(whose)).cloned().collect();
        for whose in ended {
            let labels = self.labels(&whose);
            let labels = labels.each_ref().map(|label| &**label);
            self.seen.subscriptions.remove(&whose);
            self.gauges.say(SUBSCRIPTION_HEALTHY, &labels, Fold::Min, 0.0);
            for metric in [SUBSCRIPTION_OUTSTANDING, SUBSCRIPTION_HELD_BACK] {
                self.gauges.say(metric, &labels, Fold::Max, 0.0);
            }
            for metric in [SUBSCRIPTION_LAG, SUBSCRIPTION_OLDEST] {
                if has_failed {
                    self.gauges.say_if_known(metric, &labels, Fold::Max, None);
                } else if self.gauges.is_known(metric, &labels) {
                    self.gauges.say(metric, &labels, Fold::Max, 0.0);
                }
            }
        }
    }

    fn labels(&self, (handler, subscriber, topic, _): &Whose) -> [metrics::SharedString; 3] {
        [self.shared.name(handler), self.shared.name(subscriber), self.shared.topic(topic)]
    }
}

impl Together {
    fn add(&mut self, status: &SubscriptionStatus) {
        self.is_healthy |= status.health == Health::Healthy;
        self.is_held_back |= status.held_back_by.is_some();
        self.outstanding += status.outstanding;
        if let Some(lag) = status.lag {
            *self.lag.get_or_insert(0) += lag;
        }
        if let Some(age) = age(status) {
            let oldest = self.oldest.get_or_insert(0.0);
            *oldest = oldest.max(age);
        }
    }
}

/// The age of the oldest message, in seconds: none is there where nothing waits.
pub(super) fn age(status: &SubscriptionStatus) -> Option<f64> {
    match status.oldest_unsettled {
        Some(age) => Some(age.as_secs_f64()),
        None => (status.lag == Some(0)).then_some(0.0),
    }
}
