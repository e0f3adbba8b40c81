//! [`Shared`]: where figures are registered, and the words that may stand in labels.

use std::sync::Arc;

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, SharedString, Unit,
    with_recorder,
};

use super::{
    buckets::Durations,
    list::{ALL, Kind, Metric, RecordedBy},
    page::Page,
    words::Words,
};

/// As Go Watermill says it.
pub(crate) const NO_HANDLER: &str = "<no handler>";

/// What the parts of a [`Metrics`](super::Metrics) share.
pub(crate) struct Shared {
    target: Target,
    topics: Words,
    names: Words,
    /// What stands before the names of Go's metrics.
    prefix: String,
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

impl Shared {
    pub(super) fn new(target: Target, topics: Words, names: Words, prefix: String) -> Self {
        let shared = Self { target, topics, names, prefix };
        shared.with(|recorder| {
            ALL.iter().filter(|metric| metric.by != RecordedBy::Daemon).for_each(|metric| {
                describe(metric, shared.name_of(metric), recorder);
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

    /// Whether all topics that come now, and this one among them, are [`OTHER`](super::words::OTHER). Takes no lock.
    pub(crate) fn is_topic_beyond(&self, topic: &str) -> bool {
        self.topics.is_beyond(topic)
    }

    /// The same of names.
    pub(crate) fn is_name_beyond(&self, name: &str) -> bool {
        self.names.is_beyond(name)
    }

    pub(crate) fn counter(&self, metric: &Metric, values: &[&str]) -> Counter {
        let key = self.key(metric, values);
        self.with(|recorder| recorder.register_counter(&key, &METADATA))
    }

    pub(crate) fn gauge(&self, metric: &Metric, values: &[&str]) -> Gauge {
        let key = self.key(metric, values);
        self.with(|recorder| recorder.register_gauge(&key, &METADATA))
    }

    pub(crate) fn histogram(&self, metric: &Metric, values: &[&str]) -> Histogram {
        let key = self.key(metric, values);
        match &self.target {
            Target::Page(page) => {
                page.buckets(&key, metric.buckets()).map_or_else(Histogram::noop, Histogram::from_arc)
            }
            _ => self.with(|recorder| recorder.register_histogram(&key, &METADATA)),
        }
    }

    /// A histogram of durations.
    pub(super) fn durations(&self, metric: &Metric, values: &[&str]) -> Durations {
        let buckets = match &self.target {
            Target::Page(page) => page.buckets(&self.key(metric, values), metric.buckets()),
            Target::Global | Target::Own(_) => None,
        };
        buckets.map_or_else(|| Durations::Other(self.histogram(metric, values)), Durations::Page)
    }

    /// Its name here.
    fn name_of(&self, metric: &Metric) -> KeyName {
        if self.prefix.is_empty() || metric.name.starts_with("watermill_") {
            metric.name.into()
        } else {
            format!("{}{}", self.prefix, metric.name).into()
        }
    }

    fn key(&self, metric: &Metric, values: &[&str]) -> Key {
        debug_assert_eq!(metric.labels.len(), values.len(), "{}", metric.name);
        let labels = metric.labels.iter().zip(values);
        let labels: Vec<Label> = labels.map(|(name, value)| Label::new(*name, (*value).to_owned())).collect();
        Key::from_parts(self.name_of(metric), labels)
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

fn describe(metric: &Metric, name: KeyName, recorder: &dyn Recorder) {
    let unit = (metric.unit == "seconds").then_some(Unit::Seconds);
    let meaning = metric.meaning.into();
    match metric.kind {
        Kind::Counter => recorder.describe_counter(name, unit, meaning),
        Kind::Gauge => recorder.describe_gauge(name, unit, meaning),
        Kind::Histogram => recorder.describe_histogram(name, unit, meaning),
    }
}
