//! The queries of the dashboard and of the rules, and what they name.

use std::{collections::BTreeSet, fs, path::PathBuf};

use watermill_telemetry::metrics::{ALL, Kind, Metric};
use watermill_testkit::prometheus::panels;

pub(crate) const DASHBOARD: &str = "grafana/watermill.json";
pub(crate) const RULES: &str = "prometheus/alerts.yml";

/// The metric that a series belongs to.
pub(crate) fn metric(series: &str) -> Option<&'static Metric> {
    ALL.iter().find(|metric| match metric.kind {
        Kind::Histogram => {
            ["_bucket", "_sum", "_count"].iter().any(|end| series.strip_suffix(end) == Some(metric.name))
        }
        _ => metric.name == series,
    })
}

/// The queries of the dashboard.
pub(crate) fn dashboard() -> Vec<String> {
    panels(&read(DASHBOARD))
}

/// The expressions of the rules: on the line of their key, or on the lines below it that are indented further.
pub(crate) fn rules() -> Vec<String> {
    let text = read(RULES);
    let lines: Vec<&str> = text.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut queries = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(query) = line.trim_start().strip_prefix("expr: ") else { continue };
        let below = lines[at + 1..].iter().take_while(|below| indent(below) > indent(line));
        let block: Vec<&str> = below.map(|line| line.trim()).collect();
        queries.push(if query == "|" { block.join(" ") } else { query.to_owned() });
    }
    queries
}

/// The series and the labels that a query of PromQL names.
pub(crate) fn names(query: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    const WORDS: [&str; 11] =
        ["sum", "max", "min", "or", "and", "unless", "offset", "bool", "inf", "nan", "start"];
    const GROUPS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
    let (mut series, mut labels) = (BTreeSet::new(), BTreeSet::new());
    let mut rest = query;
    // Whether the words up to the closing bracket are labels.
    let mut of_labels = false;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(rest.len());
        match first {
            '"' => {
                let closing = rest[1..].find('"').expect("a text is closed");
                rest = &rest[closing + 2..];
            }
            '[' => rest = &rest[rest.find(']').expect("a range is closed") + 1..],
            c if c.is_ascii_alphabetic() || c == '_' => {
                let (word, after) = rest.split_at(end);
                rest = after;
                let is_called = after.trim_start().starts_with('(');
                if of_labels {
                    labels.insert(word.to_owned());
                } else if GROUPS.contains(&word) {
                    of_labels = true;
                    rest = after.trim_start().strip_prefix('(').expect("its labels are in brackets");
                } else if !is_called && !WORDS.contains(&word) {
                    series.insert(word.to_owned());
                }
            }
            c => {
                of_labels = (of_labels || c == '{') && c != '}' && c != ')';
                // A number with its unit is one word.
                rest = &rest[end.max(c.len_utf8())..];
            }
        }
    }
    (series, labels)
}

pub(crate) fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

pub(crate) fn read(file: &str) -> String {
    fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file} cannot be read: {error}"))
}

pub(crate) fn path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file)
}
