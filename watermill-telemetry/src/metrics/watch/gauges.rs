//! [`Gauges`]: what is said of gauges in one look, put together where several share their labels.

use std::collections::{HashMap, HashSet};

use crate::metrics::{list::Metric, shared::Shared};

/// How gauges of one name and the same labels become one: of subscriptions to one topic, of topics and names beyond a bound.
#[derive(Clone, Copy)]
pub(super) enum Fold {
    /// They are added up.
    Sum,
    /// The largest: of those that are 0 or 1, whether any is.
    Max,
    /// The smallest: whether all are.
    Min,
}

/// Set when a look is over, each once.
#[derive(Default)]
pub(super) struct Gauges {
    said: HashMap<Which, Said>,
    /// Those that have been a number.
    known: HashSet<Which>,
}

/// The name of a gauge and the values of its labels.
type Which = (&'static str, Vec<String>);

/// What was said of one.
struct Said {
    metric: &'static Metric,
    value: Option<f64>,
}

impl Gauges {
    pub(super) fn say(&mut self, metric: &'static Metric, labels: &[&str], fold: Fold, value: f64) {
        self.say_if_known(metric, labels, fold, Some(value));
    }

    /// Of a figure that is not always known. Once it was, it is no number while it is not: the last one would be taken for
    /// how things stand, and a comparison with no number is never true.
    pub(super) fn say_if_known(
        &mut self,
        metric: &'static Metric,
        labels: &[&str],
        fold: Fold,
        value: Option<f64>,
    ) {
        let which = (metric.name, labels.iter().map(|label| (*label).to_owned()).collect());
        let said = self.said.entry(which).or_insert(Said { metric, value: None });
        said.value = match (said.value, value) {
            (Some(before), Some(value)) => Some(fold.of(before, value)),
            (before, value) => before.or(value),
        };
    }

    /// Whether it has been a number.
    pub(super) fn is_known(&self, metric: &'static Metric, labels: &[&str]) -> bool {
        self.known.iter().any(|(name, known)| *name == metric.name && known == labels)
    }

    /// The look is over.
    pub(super) fn set(&mut self, shared: &Shared) {
        for (which, Said { metric, value }) in self.said.drain() {
            if value.is_none() && !self.known.contains(&which) {
                continue;
            }
            let labels: Vec<&str> = which.1.iter().map(String::as_str).collect();
            shared.gauge(metric, &labels).set(value.unwrap_or(f64::NAN));
            self.known.insert(which);
        }
    }
}

impl Fold {
    fn of(self, one: f64, other: f64) -> f64 {
        match self {
            Self::Sum => one + other,
            Self::Max => one.max(other),
            Self::Min => one.min(other),
        }
    }
}
