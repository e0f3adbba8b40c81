//! The dashboard and the rules name metrics that there are, with labels that they have, and the rules fire when they should.

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

use serde_json::Value;
use watermill_telemetry::metrics::{ALL, Kind, Metric};

const DASHBOARD: &str = "grafana/watermill.json";
const RULES: &str = "prometheus/alerts.yml";

#[test]
fn every_metric_and_label_that_the_dashboard_names_exists() {
    check(DASHBOARD, &dashboard());
}

#[test]
fn every_metric_and_label_that_the_rules_name_exists() {
    check(RULES, &rules());
}

#[test]
fn every_metric_is_on_the_dashboard() {
    let named: BTreeSet<&str> = dashboard()
        .iter()
        .flat_map(|query| names(query).0)
        .filter_map(|name| metric(&name))
        .map(|metric| metric.name)
        .collect();
    let missing: Vec<&str> =
        ALL.iter().map(|metric| metric.name).filter(|name| !named.contains(*name)).collect();
    assert_eq!(missing, [""; 0]);
}

#[test]
fn metrics_and_labels_are_found_in_a_query() {
    let query = r#"sum by (relay, le) (rate(a_total{kind!="b", c=~"d(e)"}[5m])) / on (f) g offset 5m or vector(0) > 300"#;
    let (names, labels) = names(query);
    assert_eq!(names, set(&["a_total", "g"]));
    assert_eq!(labels, set(&["relay", "le", "kind", "c", "f"]));
}

#[test]
fn the_rules_are_well_formed_and_fire_when_they_should() {
    if Command::new("promtool").arg("--version").output().is_err() {
        println!("not run: promtool is not installed (Debian: apt-get install prometheus)");
        return;
    }
    for (verb, file) in [("check", RULES), ("test", "prometheus/alerts.test.yml")] {
        let output = Command::new("promtool").args([verb, "rules"]).arg(path(file)).output().unwrap();
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "promtool {verb} rules {file}:\n{said}");
    }
}

#[test]
fn every_rule_has_a_summary_and_a_severity() {
    let text = read(RULES);
    let rules: Vec<&str> = text.split("- alert: ").skip(1).collect();
    assert!(rules.len() > 5);
    for rule in rules {
        for wanted in ["summary: ", "severity: "] {
            assert!(rule.contains(wanted), "no {wanted}in {rule}");
        }
    }
}

fn check(file: &str, queries: &[String]) {
    assert!(queries.len() > 5, "{file} has {} queries", queries.len());
    let mut faults = Vec::new();
    for query in queries {
        let (names, labels) = names(query);
        let mut known: BTreeSet<&str> = BTreeSet::from(["instance", "job", "le"]);
        for name in &names {
            match metric(name) {
                Some(metric) => known.extend(metric.labels),
                None => faults.push(format!("there is no {name}: {query}")),
            }
        }
        let unknown = labels.iter().filter(|label| !known.contains(&***label));
        faults.extend(unknown.map(|label| format!("none has the label {label}: {query}")));
    }
    assert!(faults.is_empty(), "{file}:\n{}", faults.join("\n"));
}

/// The metric that a series belongs to.
fn metric(series: &str) -> Option<&'static Metric> {
    ALL.iter().find(|metric| match metric.kind {
        Kind::Histogram => {
            ["_bucket", "_sum", "_count"].iter().any(|end| series.strip_suffix(end) == Some(metric.name))
        }
        _ => metric.name == series,
    })
}

/// The queries of the dashboard.
fn dashboard() -> Vec<String> {
    fn collect(value: &Value, queries: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                queries.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|value| collect(value, queries));
            }
            Value::Array(values) => values.iter().for_each(|value| collect(value, queries)),
            _ => {}
        }
    }
    let mut queries = Vec::new();
    collect(&serde_json::from_str(&read(DASHBOARD)).expect("it is JSON"), &mut queries);
    queries
}

/// The expressions of the rules: on the line of their key, or on the lines below it that are indented further.
fn rules() -> Vec<String> {
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
fn names(query: &str) -> (BTreeSet<String>, BTreeSet<String>) {
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

fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn read(file: &str) -> String {
    fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file} cannot be read: {error}"))
}

fn path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file)
}
