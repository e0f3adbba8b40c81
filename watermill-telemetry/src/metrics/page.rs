//! [`Page`]: a recorder whose figures are rendered as Prometheus reads them.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use parking_lot::RwLock;

use super::list::{ALL, DEFAULT_BUCKETS};

/// Counters and gauges are the exporter's. Histograms are counted here, in buckets, as they are recorded: the exporter
/// collects every value until somebody asks for the page, which a process that nobody scrapes would pay for with its memory.
pub(crate) struct Page {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    histograms: RwLock<BTreeMap<String, Family>>,
}

/// The histograms of one name.
#[derive(Default)]
struct Family {
    help: Option<SharedString>,
    by_labels: BTreeMap<String, Arc<Buckets>>,
}

/// Counts in buckets, each without those below it.
struct Buckets {
    bounds: &'static [f64],
    counts: Vec<AtomicU64>,
    /// The bits of the sum.
    sum: AtomicU64,
}

impl Page {
    pub(crate) fn new() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        Self { recorder, handle, histograms: RwLock::default() }
    }

    /// The text format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
    pub(crate) fn render(&self) -> String {
        let mut text = self.handle.render();
        for (name, family) in &*self.histograms.read() {
            family.render(name, &mut text);
        }
        text
    }
}

impl Recorder for Page {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.recorder.describe_counter(name, unit, help);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.recorder.describe_gauge(name, unit, help);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.histograms.write().entry(word(name.as_str())).or_default().help = Some(help);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.recorder.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.recorder.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let labels: Vec<String> = key
            .labels()
            .map(|label| format!("{}=\"{}\"", word(label.key()), escaped(label.value())))
            .collect();
        let bounds = ALL.iter().find(|metric| metric.name == key.name()).map(|metric| metric.buckets());
        let mut histograms = self.histograms.write();
        let family = histograms.entry(word(key.name())).or_default();
        let buckets = family
            .by_labels
            .entry(labels.join(","))
            .or_insert_with(|| Arc::new(Buckets::new(bounds.unwrap_or(DEFAULT_BUCKETS))));
        Histogram::from_arc(Arc::clone(buckets))
    }
}

impl Family {
    fn render(&self, name: &str, text: &mut String) {
        if self.by_labels.is_empty() {
            return;
        }
        if let Some(help) = &self.help {
            let _ = writeln!(text, "# HELP {name} {help}");
        }
        let _ = writeln!(text, "# TYPE {name} histogram");
        for (labels, buckets) in &self.by_labels {
            let comma = if labels.is_empty() { "" } else { "," };
            let mut count = 0;
            let bounds = buckets.bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
            for (bound, of_bucket) in bounds.zip(&buckets.counts) {
                count += of_bucket.load(Relaxed);
                let _ = writeln!(text, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}");
            }
            let sum = f64::from_bits(buckets.sum.load(Relaxed));
            let _ = writeln!(text, "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {count}");
        }
        text.push('\n');
    }
}

impl Buckets {
    fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::default(),
        }
    }
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        let at = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
        self.counts[at].fetch_add(1, Relaxed);
        let mut sum = self.sum.load(Relaxed);
        while let Err(now) =
            self.sum.compare_exchange_weak(sum, (f64::from_bits(sum) + value).to_bits(), Relaxed, Relaxed)
        {
            sum = now;
        }
    }
}

/// A name as Prometheus allows it.
fn word(name: &str) -> String {
    let allowed = |(at, c): (usize, char)| {
        let is_allowed = c.is_ascii_alphabetic() || matches!(c, '_' | ':') || (at > 0 && c.is_ascii_digit());
        if is_allowed { c } else { '_' }
    };
    name.chars().enumerate().map(allowed).collect()
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use metrics::Label;

    use super::*;

    const METADATA: Metadata<'static> = Metadata::new("test", metrics::Level::INFO, None);

    #[test]
    fn a_histogram_of_anybody_is_counted_in_buckets_and_rendered() {
        let page = Page::new();
        let key = Key::from_parts("wait.seconds", vec![Label::new("who", "a\"\n\\")]);
        page.describe_histogram("wait.seconds".into(), None, "how long".into());
        let histogram = page.register_histogram(&key, &METADATA);
        [0.001, 0.005, 0.3, 60.0].into_iter().for_each(|seconds| histogram.record(seconds));
        let text = page.render();
        for line in [
            "# HELP wait_seconds how long",
            "# TYPE wait_seconds histogram",
            r#"wait_seconds_bucket{who="a\"\n\\",le="0.005"} 2"#,
            r#"wait_seconds_bucket{who="a\"\n\\",le="0.5"} 3"#,
            r#"wait_seconds_bucket{who="a\"\n\\",le="+Inf"} 4"#,
            r#"wait_seconds_sum{who="a\"\n\\"} 60.306"#,
            r#"wait_seconds_count{who="a\"\n\\"} 4"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
    }

    #[test]
    fn the_same_labels_are_the_same_histogram() {
        let page = Page::new();
        for _ in 0..2 {
            page.register_histogram(&Key::from_name("seconds"), &METADATA).record(1.0);
        }
        assert!(page.render().contains("seconds_count{} 2\n"), "{}", page.render());
    }
}
