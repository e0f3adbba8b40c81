//! What a page looks like to Prometheus: names, labels and lines.

use std::{borrow::Cow, fmt::Write as _, sync::Arc, sync::atomic::Ordering::Relaxed};

use metrics::{Key, SharedString};

use super::{Figure, Kind};

/// The lines that a histogram has besides its name.
const SUFFIXES: [&str; 3] = ["_bucket", "_sum", "_count"];

/// What is rendered of the figures of one name. They go on counting.
pub(super) struct Family {
    name: Arc<str>,
    help: Option<SharedString>,
    figures: Vec<(Arc<str>, Figure)>,
}

impl Family {
    pub(super) fn of((name, family): (&Arc<str>, &super::Family)) -> Self {
        let figures =
            family.figures.iter().map(|(labels, figure)| (labels.clone(), figure.clone())).collect();
        Self { name: name.clone(), help: family.help.clone(), figures }
    }

    pub(super) fn render(&self, text: &mut String) {
        let (name, Some((_, first))) = (&self.name, self.figures.first()) else { return };
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

/// Names whose lines would be those of this one, and of which kinds: both on a page were two samples of one series.
pub(super) fn shadows(
    name: &str,
    kind: Kind,
) -> impl Iterator<Item = (String, fn(Option<Kind>) -> bool)> + use<> {
    let of_histogram: fn(Option<Kind>) -> bool = |kind| kind == Some(Kind::Histogram);
    let of_any: fn(Option<Kind>) -> bool = |kind| kind.is_some();
    let histograms = SUFFIXES.map(|suffix| Some((name.strip_suffix(suffix)?.to_owned(), of_histogram)));
    let parts = SUFFIXES.map(|suffix| (kind == Kind::Histogram).then(|| (format!("{name}{suffix}"), of_any)));
    histograms.into_iter().chain(parts).flatten()
}

/// The name of a metric as Prometheus allows it.
pub(super) fn metric_name(name: &str) -> String {
    word(name, |c| c == ':')
}

/// The labels of a figure as they stand in braces: by name, so that their order makes no other figure, and each once.
pub(super) fn labels_of(key: &Key, kind: Kind) -> String {
    let mut labels: Vec<_> =
        key.labels().map(|label| (label_name(label.key(), kind), escaped(label.value()))).collect();
    labels.sort_unstable();
    labels.dedup_by(|(later, _), (earlier, _)| later == earlier);
    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    labels.join(",")
}

/// The name of a label as Prometheus allows it, without a colon. What Prometheus or a histogram has a use for itself is
/// renamed as Prometheus does it.
fn label_name(name: &str, kind: Kind) -> String {
    let name = word(name, |_| false);
    let is_taken = name.starts_with("__") || (kind == Kind::Histogram && name == "le");
    if is_taken { format!("exported_{name}") } else { name }
}

fn word(name: &str, is_allowed_too: impl Fn(char) -> bool) -> String {
    let allowed = |(at, c): (usize, char)| {
        let is_allowed =
            c.is_ascii_alphabetic() || c == '_' || is_allowed_too(c) || (at > 0 && c.is_ascii_digit());
        if is_allowed { c } else { '_' }
    };
    let name = if name.is_empty() { "_" } else { name };
    name.chars().enumerate().map(allowed).collect()
}

fn escaped(value: &str) -> Cow<'_, str> {
    if !value.contains(['\\', '"', '\n']) {
        return value.into();
    }
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").into()
}
