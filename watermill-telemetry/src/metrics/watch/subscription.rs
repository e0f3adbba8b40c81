//! The figures of a subscription.

use metrics::Gauge;
use tokio::time::Instant;
use watermill_core::{
    HandlerInfo,
    subscription::{Health, SubscriptionStatus},
};

use super::Look;
use crate::metrics::list::{
    Metric, SUBSCRIPTION_CHANGES, SUBSCRIPTION_HEALTHY, SUBSCRIPTION_HELD_BACK, SUBSCRIPTION_LAG,
    SUBSCRIPTION_OLDEST, SUBSCRIPTION_OUTSTANDING,
};

/// What was seen of a subscription.
#[derive(Clone, Copy, Default)]
pub(super) struct Known {
    pub(super) is_healthy: bool,
    pub(super) held_since: Option<Instant>,
    pub(super) has_lag: bool,
    pub(super) has_age: bool,
}

impl Look<'_> {
    pub(super) fn subscription(&mut self, handler: &str, subscriber: &str, status: &SubscriptionStatus) {
        let (handler, subscriber) = (self.shared.name(handler), self.shared.name(subscriber));
        let topic = self.shared.topic(&status.topic);
        let labels = [&*handler, &*subscriber, &*topic];
        let before = self.seen.subscriptions.get(&labels.join("\n")).copied();
        let mut known = before.unwrap_or_default();

        known.is_healthy = status.health == Health::Healthy;
        // The first look is no change.
        let changes = u64::from(before.is_some_and(|before| before.is_healthy != known.is_healthy));
        self.shared.counter(SUBSCRIPTION_CHANGES, &labels).increment(changes);
        self.gauge(SUBSCRIPTION_HEALTHY, &labels).set(f64::from(known.is_healthy));
        self.gauge(SUBSCRIPTION_OUTSTANDING, &labels).set(status.outstanding as f64);

        known.held_since =
            status.held_back_by.is_some().then(|| known.held_since.unwrap_or_else(Instant::now));
        let held = known.held_since.map_or(0.0, |since| since.elapsed().as_secs_f64());
        self.gauge(SUBSCRIPTION_HELD_BACK, &labels).set(held);

        let lag = status.lag.map(|lag| lag as f64);
        self.while_known(SUBSCRIPTION_LAG, &labels, lag, &mut known.has_lag);
        self.while_known(SUBSCRIPTION_OLDEST, &labels, age(status), &mut known.has_age);
        self.seen.subscriptions.insert(labels.join("\n"), known);
    }

    /// Of a handler that has ended. What it has left behind when it failed still waits; of one that was stopped
    /// nobody is to hear any more.
    pub(super) fn subscription_ended(&mut self, info: &HandlerInfo, has_failed: bool) {
        let (handler, subscriber) = (self.shared.name(&info.name), self.shared.name(&info.subscriber));
        let topic = self.shared.topic(&info.subscribe_topic);
        let labels = [&*handler, &*subscriber, &*topic];
        let Some(known) = self.seen.subscriptions.remove(&labels.join("\n")) else { return };
        for metric in [SUBSCRIPTION_HEALTHY, SUBSCRIPTION_OUTSTANDING, SUBSCRIPTION_HELD_BACK] {
            self.gauge(metric, &labels).set(0.0);
        }
        for (metric, is_known) in [(SUBSCRIPTION_LAG, known.has_lag), (SUBSCRIPTION_OLDEST, known.has_age)] {
            if is_known && !has_failed {
                self.gauge(metric, &labels).set(0.0);
            }
        }
    }

    /// Sets a figure that is not always known. Once it was, it is no number while it is not: the last one would be taken for
    /// how things stand, and a comparison with no number is never true.
    pub(super) fn while_known(
        &self,
        metric: &Metric,
        labels: &[&str],
        figure: Option<f64>,
        was_known: &mut bool,
    ) {
        *was_known |= figure.is_some();
        if *was_known {
            self.gauge(metric, labels).set(figure.unwrap_or(f64::NAN));
        }
    }

    pub(super) fn gauge(&self, metric: &Metric, labels: &[&str]) -> Gauge {
        self.shared.gauge(metric, labels)
    }
}

/// The age of the oldest message, in seconds: none is there where nothing waits.
pub(super) fn age(status: &SubscriptionStatus) -> Option<f64> {
    match status.oldest_unsettled {
        Some(age) => Some(age.as_secs_f64()),
        None => (status.lag == Some(0)).then_some(0.0),
    }
}
