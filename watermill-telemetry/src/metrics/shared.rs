//! [`Shared`]: where figures are registered, and the words that may stand in labels.

use std::{collections::HashSet, sync::Arc};

use metrics::{
    Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, SharedString, Unit, with_recorder,
};
use parking_lot::Mutex;

use super::{
    list::{ALL, Kind, Metric, RecordedBy},
    page::Page,
};

/// What stands for all that is beyond a bound.
pub(crate) const OTHER: &str = "other";

/// As Go Watermill says it.
pub(crate) const NO_HANDLER: &str = "<no handler>";

/// What the parts of a [`Metrics`](super::Metrics) share.
pub(crate) struct Shared {
    target: Target,
    topics: Words,
    names: Words,
}

/// Where figures go.
pub(crate) enum Target {
    /// Whatever recorder the process has when a figure is first recorded.
    Global,
    /// One of their own.
    Own(Arc<dyn Recorder + Send + Sync>),
    /// The page of this crate.
    Page(Arc<Page>),
}

/// Words that become labels: so many and no more.
struct Words {
    known: Mutex<HashSet<SharedString>>,
    max: usize,
}

impl Shared {
    pub(crate) fn new(target: Target, topics_max: usize, names_max: usize) -> Self {
        let shared = Self { target, topics: Words::new(topics_max), names: Words::new(names_max) };
        shared.with(|recorder| {
            ALL.iter().filter(|metric| metric.by != RecordedBy::Daemon).for_each(|metric| {
                describe(metric, recorder);
            })
        });
        shared
    }

    /// The page, where figures go to one.
    pub(crate) fn page(&self) -> Option<&Arc<Page>> {
        match &self.target {
            Target::Page(page) => Some(page),
            Target::Global | Target::Own(_) => None,
        }
    }

    /// The label of a topic or a destination.
    pub(crate) fn topic(&self, topic: &str) -> SharedString {
        self.topics.label(topic)
    }

    /// The label of a handler, a publisher or a relay.
    pub(crate) fn name(&self, name: &str) -> SharedString {
        self.names.label(name)
    }

    pub(crate) fn counter(&self, metric: &Metric, values: &[&str]) -> Counter {
        let key = key(metric, values);
        self.with(|recorder| recorder.register_counter(&key, &METADATA))
    }

    pub(crate) fn gauge(&self, metric: &Metric, values: &[&str]) -> Gauge {
        let key = key(metric, values);
        self.with(|recorder| recorder.register_gauge(&key, &METADATA))
    }

    pub(crate) fn histogram(&self, metric: &Metric, values: &[&str]) -> Histogram {
        let key = key(metric, values);
        self.with(|recorder| recorder.register_histogram(&key, &METADATA))
    }

    fn with<T>(&self, work: impl FnOnce(&dyn Recorder) -> T) -> T {
        match &self.target {
            Target::Global => with_recorder(work),
            Target::Own(recorder) => work(&**recorder),
            Target::Page(page) => work(&**page),
        }
    }
}

const METADATA: Metadata<'static> = Metadata::new("watermill", Level::INFO, Some(module_path!()));

impl Words {
    fn new(max: usize) -> Self {
        Self { known: Mutex::default(), max }
    }

    fn label(&self, word: &str) -> SharedString {
        let mut known = self.known.lock();
        if let Some(word) = known.get(word) {
            return word.clone();
        }
        if known.len() >= self.max {
            return OTHER.into();
        }
        let word: SharedString = Arc::<str>::from(word).into();
        known.insert(word.clone());
        word
    }
}

fn key(metric: &Metric, values: &[&str]) -> Key {
    debug_assert_eq!(metric.labels.len(), values.len(), "{}", metric.name);
    let labels = metric.labels.iter().zip(values);
    Key::from_parts(
        metric.name,
        labels.map(|(name, value)| Label::new(*name, (*value).to_owned())).collect::<Vec<_>>(),
    )
}

fn describe(metric: &Metric, recorder: &dyn Recorder) {
    let unit = (metric.unit == "seconds").then_some(Unit::Seconds);
    let (name, meaning) = (metric.name.into(), metric.meaning.into());
    match metric.kind {
        Kind::Counter => recorder.describe_counter(name, unit, meaning),
        Kind::Gauge => recorder.describe_gauge(name, unit, meaning),
        Kind::Histogram => recorder.describe_histogram(name, unit, meaning),
    }
}
