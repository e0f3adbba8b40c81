//! The queries, asked of a Prometheus that scrapes the page of a service.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::{sleep, timeout};
use watermill_telemetry::metrics::RecordedBy;
use watermill_testkit::{patience, prometheus::Prometheus};

use crate::{
    queries::{RULES, dashboard, metric, names, path, rules},
    service::Service,
};

/// Alerts that the service gives reason for. Some of them wait for minutes before they are sent.
const RAISED: [&str; 7] = [
    "WatermillDeadLetters",
    "WatermillHandlerEnded",
    "WatermillHandlerPanics",
    "WatermillOldestMessage",
    "WatermillPublishErrors",
    "WatermillRelayDeadLetters",
    "WatermillSubscriptionDegraded",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_and_the_rules_find_what_a_service_shows() {
    let service = Service::start().await;
    let prometheus = Prometheus::start(service.address, Some(&path(RULES))).await;
    // What the daemon alone shows is not on this page; the daemon's own tests ask for it.
    let of_a_service = |query: &String| {
        names(query).0.iter().all(|name| metric(name).is_some_and(|metric| metric.by != RecordedBy::Daemon))
    };
    let series: BTreeSet<String> = rules().iter().flat_map(|rule| names(rule).0).collect();
    let queries: Vec<String> = dashboard().into_iter().chain(series).filter(of_a_service).collect();
    assert!(queries.len() > 30, "{queries:#?}");
    prometheus.answers(queries).await;

    let raised = timeout(patience(), async {
        loop {
            let alerts = prometheus.api("/api/v1/alerts").await.expect("it answers");
            let names: BTreeSet<String> = alerts["alerts"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|alert| Some(alert["labels"]["alertname"].as_str()?.to_owned()))
                .collect();
            if RAISED.iter().all(|name| names.contains(*name)) {
                return names;
            }
            sleep(Duration::from_millis(200)).await;
        }
    });
    let raised = raised.await.expect("the alerts are raised that there is reason for");
    assert!(!raised.contains("WatermillRelayAbsent"), "the relay is there: {raised:?}");

    let groups = prometheus.api("/api/v1/rules").await.expect("it answers");
    let rules: Vec<_> = groups["groups"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|group| group["rules"].as_array())
        .flatten()
        .collect();
    assert!(rules.len() > RAISED.len());
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule:#}");
    }
}
