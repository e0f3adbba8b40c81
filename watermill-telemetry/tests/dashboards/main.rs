//! The dashboard and the rules name metrics that there are, with labels that they have, and the rules fire when they should.

#[cfg(feature = "prometheus")]
mod live;
#[cfg(feature = "prometheus")]
mod promtool;
mod queries;
#[cfg(feature = "prometheus")]
mod service;

use std::collections::BTreeSet;

use watermill_telemetry::metrics::ALL;

use queries::{DASHBOARD, RULES, dashboard, metric, names, read, rules, set};

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
