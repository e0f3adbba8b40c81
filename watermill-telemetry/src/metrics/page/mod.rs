//! [`Page`]: a recorder whose figures are rendered as Prometheus reads them.

mod text;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use parking_lot::RwLock;

use self::text::{labels_of, metric_name};
use super::{
    buckets::Buckets,
    list::{ALL, DEFAULT_BUCKETS, Kind},
};

/// Figures by name and labels. Each is counted where it is recorded, histograms in their buckets: nothing is collected
/// until somebody asks for the page, which a process that nobody scrapes would pay for with its memory.
///
/// The lock is held for as long as it takes to find a figure, and nobody else's code runs under it: what is logged may come
/// back as a figure, by a subscriber that counts lines.
#[derive(Default)]
pub(crate) struct Page {
    families: RwLock<BTreeMap<Arc<str>, Family>>,
}

/// The figures of one name.
#[derive(Default)]
struct Family {
    help: Option<SharedString>,
    /// By their labels, all of the kind of the first.
    figures: BTreeMap<Arc<str>, Figure>,
    /// Whether somebody was refused this name, and was told so.
    has_refused: AtomicBool,
}

#[derive(Clone)]
enum Figure {
    Counter(Arc<AtomicU64>),
    /// The bits of the value.
    Gauge(Arc<AtomicU64>),
    Histogram(Arc<Buckets>),
}

/// What is there already of a figure that is asked for.
enum Found {
    Figure(Figure),
    Nothing,
    /// The name is another kind's.
    Refused {
        is_first: bool,
    },
}

impl Page {
    /// The text format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
    pub(crate) fn render(&self) -> String {
        // Whoever records a new figure meanwhile does not wait for the text to be written.
        let families: Vec<_> = self.families.read().iter().map(text::Family::of).collect();
        let mut text = String::new();
        families.iter().for_each(|family| family.render(&mut text));
        text
    }

    /// The histogram of these labels; none where the name is another kind's.
    pub(super) fn buckets(&self, key: &Key, bounds: &'static [f64]) -> Option<Arc<Buckets>> {
        let new = || Figure::Histogram(Arc::new(Buckets::new(bounds)));
        match self.figure(key, Kind::Histogram, new) {
            Some(Figure::Histogram(buckets)) => Some(buckets),
            _ => None,
        }
    }

    /// Finds a figure or makes it. One whose name is another kind's already is recorded nowhere: a page with two types of one
    /// name would be refused as a whole.
    fn figure(&self, key: &Key, kind: Kind, new: impl FnOnce() -> Figure) -> Option<Figure> {
        let name = metric_name(key.name());
        let labels = labels_of(key, kind);
        let found =
            self.families.read().get(&*name).map_or(Found::Nothing, |family| family.find(&labels, kind));
        let found = match found {
            Found::Nothing => self.make(name, labels, kind, new),
            found => found,
        };
        match found {
            Found::Figure(figure) => Some(figure),
            Found::Refused { is_first: true } => {
                tracing::warn!(
                    name = key.name(),
                    "a metric has the name of one of another kind and is not recorded"
                );
                None
            }
            Found::Refused { is_first: false } | Found::Nothing => None,
        }
    }

    fn make(&self, name: String, labels: String, kind: Kind, new: impl FnOnce() -> Figure) -> Found {
        let mut families = self.families.write();
        let is_shadowed = text::shadows(&name, kind)
            .any(|(other, is)| families.get(&*other).is_some_and(|family| is(family.kind())));
        let family = families.entry(name.into()).or_default();
        if is_shadowed {
            return family.refuse();
        }
        // Somebody else may have made it since it was looked for.
        match family.find(&labels, kind) {
            Found::Nothing => Found::Figure(family.figures.entry(labels.into()).or_insert_with(new).clone()),
            found => found,
        }
    }

    fn describe(&self, name: &KeyName, help: SharedString) {
        self.families.write().entry(metric_name(name.as_str()).into()).or_default().help = Some(help);
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
        match self.figure(key, Kind::Counter, || Figure::Counter(Arc::default())) {
            Some(Figure::Counter(counter)) => Counter::from_arc(counter),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        match self.figure(key, Kind::Gauge, || Figure::Gauge(Arc::default())) {
            Some(Figure::Gauge(gauge)) => Gauge::from_arc(gauge),
            _ => Gauge::noop(),
        }
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let bounds = ALL.iter().find(|metric| metric.name == key.name()).map(|metric| metric.buckets());
        let buckets = self.buckets(key, bounds.unwrap_or(DEFAULT_BUCKETS));
        buckets.map_or_else(Histogram::noop, Histogram::from_arc)
    }
}

impl Family {
    /// That of its figures; none where it has none yet.
    fn kind(&self) -> Option<Kind> {
        self.figures.values().next().map(Figure::kind)
    }

    fn find(&self, labels: &str, kind: Kind) -> Found {
        match self.kind() {
            Some(own) if own != kind => self.refuse(),
            // A name that was refused before it had a figure stays another's.
            None if self.has_refused.load(Relaxed) => self.refuse(),
            _ => self.figures.get(labels).cloned().map_or(Found::Nothing, Found::Figure),
        }
    }

    fn refuse(&self) -> Found {
        Found::Refused { is_first: !self.has_refused.swap(true, Relaxed) }
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

#[cfg(test)]
mod tests {
    use metrics::Label;
    use tracing_subscriber::layer::SubscriberExt as _;

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

    #[test]
    fn a_page_has_only_names_that_prometheus_reads() {
        let page = Page::default();
        let named = |name: &'static str, labels: &[(&'static str, &'static str)]| {
            let labels: Vec<_> = labels.iter().map(|(name, value)| Label::new(*name, *value)).collect();
            Key::from_parts(name, labels)
        };
        page.register_counter(&named("http:sent.é", &[("a:b", "c:d"), ("9", "x")]), &METADATA).increment(1);
        page.register_counter(&named("", &[("", "x")]), &METADATA).increment(2);
        page.register_gauge(&named("up", &[("__name__", "x"), ("le", "y")]), &METADATA).set(3.0);
        page.register_histogram(&named("seconds", &[("le", "y")]), &METADATA).record(4.0);
        assert_has(
            &page,
            &[
                r#"http:sent__{_="x",a_b="c:d"} 1"#,
                r#"_{_="x"} 2"#,
                r#"up{exported___name__="x",le="y"} 3"#,
                r#"seconds_sum{exported_le="y"} 4"#,
            ],
        );
    }

    #[test]
    fn labels_in_another_order_are_the_same_figure_and_none_is_there_twice() {
        let page = Page::default();
        let mut pairs = [("b", "2"), ("a.x", "1"), ("a_x", "3")].map(|(name, value)| Label::new(name, value));
        for _ in 0..2 {
            page.register_counter(&Key::from_parts("sold", pairs.to_vec()), &METADATA).increment(1);
            pairs.rotate_left(1);
        }
        assert_eq!(page.render(), "# TYPE sold counter\nsold{a_x=\"1\",b=\"2\"} 2\n\n");
    }

    #[test]
    fn a_name_is_not_given_to_what_a_histogram_is_rendered_as() {
        let page = Page::default();
        page.register_histogram(&Key::from_name("wait"), &METADATA).record(1.0);
        page.register_counter(&Key::from_name("wait_count"), &METADATA).increment(7);
        page.register_counter(&Key::from_name("size_sum"), &METADATA).increment(7);
        page.register_histogram(&Key::from_name("size"), &METADATA).record(1.0);
        assert_has(&page, &["wait_count 1", "size_sum 7"]);
        assert!(!page.render().contains("wait_count 7") && !page.render().contains("size histogram"));
    }

    #[test]
    fn a_figure_that_exists_is_found_without_a_wait_for_those_who_read() {
        let page = Page::default();
        let key = Key::from_name("sold");
        page.register_counter(&key, &METADATA).increment(1);
        let reads = page.families.read();
        page.register_counter(&key, &METADATA).increment(1);
        page.register_gauge(&key, &METADATA).set(1.0);
        assert_eq!(page.render(), "# TYPE sold counter\nsold 2\n\n");
        drop(reads);
    }

    /// Counts log lines on the page that they may come from.
    struct CountsLines(Arc<Page>);

    impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for CountsLines {
        fn on_event(&self, _: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
            self.0.register_counter(&Key::from_name("log_lines"), &METADATA).increment(1);
        }
    }

    #[test]
    fn whoever_counts_log_lines_hears_once_of_a_name_that_is_anothers() {
        let page = Arc::new(Page::default());
        let subscriber = tracing_subscriber::registry().with(CountsLines(page.clone()));
        tracing::subscriber::with_default(subscriber, || {
            page.register_counter(&Key::from_name("a"), &METADATA).increment(1);
            for _ in 0..3 {
                page.register_gauge(&Key::from_name("a"), &METADATA).set(3.0);
            }
        });
        assert_has(&page, &["log_lines 1", "a 1"]);
    }
}
