//! [`Page`]: a recorder whose figures are rendered as Prometheus reads them.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use parking_lot::RwLock;

use super::{
    buckets::Buckets,
    list::{ALL, DEFAULT_BUCKETS, Kind},
};

/// Figures by name and labels. Each is counted where it is recorded, histograms in their buckets: nothing is collected
/// until somebody asks for the page, which a process that nobody scrapes would pay for with its memory.
#[derive(Default)]
pub(crate) struct Page {
    families: RwLock<BTreeMap<String, Family>>,
}

/// The figures of one name.
#[derive(Default)]
struct Family {
    help: Option<SharedString>,
    /// By their labels, all of the kind of the first.
    figures: BTreeMap<String, Figure>,
}

enum Figure {
    Counter(Arc<AtomicU64>),
    /// The bits of the value.
    Gauge(Arc<AtomicU64>),
    Histogram(Arc<Buckets>),
}

impl Page {
    /// The text format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        for (name, family) in &*self.families.read() {
            family.render(name, &mut text);
        }
        text
    }

    /// The histogram of these labels; none where the name is another kind's.
    pub(super) fn buckets(&self, key: &Key, bounds: &'static [f64]) -> Option<Arc<Buckets>> {
        let new = || Figure::Histogram(Arc::new(Buckets::new(bounds)));
        self.figure(key, new, |figure| match figure {
            Figure::Histogram(buckets) => Some(Arc::clone(buckets)),
            _ => None,
        })
    }

    /// Finds a figure or makes it. One whose name is another kind's already is recorded nowhere: a page with two types of one
    /// name would be refused as a whole.
    fn figure<T>(
        &self,
        key: &Key,
        new: impl FnOnce() -> Figure,
        get: impl Fn(&Figure) -> Option<T>,
    ) -> Option<T> {
        let labels: Vec<String> = key
            .labels()
            .map(|label| format!("{}=\"{}\"", word(label.key()), escaped(label.value())))
            .collect();
        let mut families = self.families.write();
        let figures = &mut families.entry(word(key.name())).or_default().figures;
        let (first, new) = (figures.values().next(), new());
        if first.is_some_and(|first| first.kind() != new.kind()) {
            tracing::warn!(
                name = key.name(),
                "a metric has the name of one of another kind and is not recorded"
            );
            return None;
        }
        get(figures.entry(labels.join(",")).or_insert(new))
    }

    fn describe(&self, name: &KeyName, help: SharedString) {
        self.families.write().entry(word(name.as_str())).or_default().help = Some(help);
    }
}

impl Recorder for Page {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&name, help);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&name, help);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&name, help);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let counter = self.figure(
            key,
            || Figure::Counter(Arc::default()),
            |figure| match figure {
                Figure::Counter(counter) => Some(Arc::clone(counter)),
                _ => None,
            },
        );
        counter.map_or_else(Counter::noop, Counter::from_arc)
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let gauge = self.figure(
            key,
            || Figure::Gauge(Arc::default()),
            |figure| match figure {
                Figure::Gauge(gauge) => Some(Arc::clone(gauge)),
                _ => None,
            },
        );
        gauge.map_or_else(Gauge::noop, Gauge::from_arc)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let bounds = ALL.iter().find(|metric| metric.name == key.name()).map(|metric| metric.buckets());
        let buckets = self.buckets(key, bounds.unwrap_or(DEFAULT_BUCKETS));
        buckets.map_or_else(Histogram::noop, Histogram::from_arc)
    }
}

impl Family {
    fn render(&self, name: &str, text: &mut String) {
        let Some(first) = self.figures.values().next() else { return };
        if let Some(help) = &self.help {
            let help = help.replace('\\', "\\\\").replace('\n', "\\n");
            let _ = writeln!(text, "# HELP {name} {help}");
        }
        let kind = match first.kind() {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = writeln!(text, "# TYPE {name} {kind}");
        for (labels, figure) in &self.figures {
            let in_braces = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
            let _ = match figure {
                Figure::Counter(counter) => writeln!(text, "{name}{in_braces} {}", counter.load(Relaxed)),
                Figure::Gauge(gauge) => {
                    writeln!(text, "{name}{in_braces} {}", f64::from_bits(gauge.load(Relaxed)))
                }
                Figure::Histogram(buckets) => {
                    let comma = if labels.is_empty() { "" } else { "," };
                    let (sum, mut count) = (buckets.sum(), 0);
                    for (bound, of_bucket) in buckets.counts() {
                        count += of_bucket;
                        let _ = writeln!(text, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}");
                    }
                    writeln!(text, "{name}_sum{in_braces} {sum}\n{name}_count{in_braces} {count}")
                }
            };
        }
        text.push('\n');
    }
}

impl Figure {
    fn kind(&self) -> Kind {
        match self {
            Self::Counter(_) => Kind::Counter,
            Self::Gauge(_) => Kind::Gauge,
            Self::Histogram(_) => Kind::Histogram,
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

    fn assert_has(page: &Page, lines: &[&str]) {
        let text = page.render();
        for line in lines {
            assert!(text.lines().any(|found| found == *line), "{line} is not in:\n{text}");
        }
    }

    #[test]
    fn a_histogram_of_anybody_is_counted_in_buckets_and_rendered() {
        let page = Page::default();
        let key = Key::from_parts("wait.seconds", vec![Label::new("who", "a\"\n\\")]);
        page.describe_histogram("wait.seconds".into(), None, "how \\ long\n".into());
        let histogram = page.register_histogram(&key, &METADATA);
        [0.001, 0.005, 0.3, 60.0].into_iter().for_each(|seconds| histogram.record(seconds));
        assert_has(
            &page,
            &[
                "# HELP wait_seconds how \\\\ long\\n",
                "# TYPE wait_seconds histogram",
                r#"wait_seconds_bucket{who="a\"\n\\",le="0.005"} 2"#,
                r#"wait_seconds_bucket{who="a\"\n\\",le="0.5"} 3"#,
                r#"wait_seconds_bucket{who="a\"\n\\",le="+Inf"} 4"#,
                r#"wait_seconds_sum{who="a\"\n\\"} 60.306"#,
                r#"wait_seconds_count{who="a\"\n\\"} 4"#,
            ],
        );
    }

    #[test]
    fn counters_and_gauges_of_anybody_are_rendered() {
        let page = Page::default();
        let counter = page.register_counter(&Key::from_name("sold"), &METADATA);
        counter.increment(2);
        counter.absolute(7);
        let key = Key::from_parts("queue", vec![Label::new("name", "mails")]);
        let gauge = page.register_gauge(&key, &METADATA);
        gauge.set(2.5);
        gauge.increment(1.0);
        page.register_gauge(&Key::from_name("unknown"), &METADATA).set(f64::NAN);
        assert_has(
            &page,
            &[
                "# TYPE sold counter",
                "sold 7",
                "# TYPE queue gauge",
                r#"queue{name="mails"} 3.5"#,
                "unknown NaN",
            ],
        );
    }

    #[test]
    fn the_same_labels_are_the_same_figure() {
        let page = Page::default();
        for _ in 0..2 {
            page.register_histogram(&Key::from_name("seconds"), &METADATA).record(1.0);
            page.register_counter(&Key::from_name("total"), &METADATA).increment(1);
        }
        assert_has(&page, &["seconds_count 2", "total 2"]);
    }

    #[test]
    fn a_name_has_one_kind() {
        let page = Page::default();
        page.register_counter(&Key::from_name("a"), &METADATA).increment(1);
        let key = Key::from_parts("a", vec![Label::new("b", "c")]);
        page.register_gauge(&key, &METADATA).set(3.0);
        page.register_histogram(&key, &METADATA).record(3.0);
        assert_eq!(page.render(), "# TYPE a counter\na 1\n\n");
    }

    #[test]
    fn what_is_described_and_never_recorded_is_not_shown() {
        let page = Page::default();
        page.describe_counter("a".into(), None, "nothing".into());
        assert_eq!(page.render(), "");
    }
}
