//! The queries, asked of a Prometheus that scrapes the page of a service.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::{sleep, timeout};
use watermill_telemetry::metrics::RecordedBy;
use watermill_testkit::patience;

use crate::{
    prometheus::Prometheus,
    queries::{dashboard, metric, names, rules},
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
    let prometheus = Prometheus::start(service.address).await;
    // What the daemon alone shows is not on this page.
    let of_a_service = |query: &String| {
        names(query).0.iter().all(|name| metric(name).is_some_and(|metric| metric.by != RecordedBy::Daemon))
    };
    let panels = dashboard().into_iter().map(|query| query.replace("$__rate_interval", "1m"));
    let series: BTreeSet<String> = rules().iter().flat_map(|rule| names(rule).0).collect();
    let mut waiting: Vec<String> = panels.chain(series).filter(of_a_service).collect();
    assert!(waiting.len() > 30, "{waiting:#?}");

    // A rate needs two samples, and some happen later than others.
    let answered = timeout(patience(), async {
        while !waiting.is_empty() {
            let mut unanswered = Vec::new();
            for query in waiting.drain(..) {
                let answer =
                    prometheus.query(&query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
                let has_data = answer.iter().any(|sample| sample["value"][1] != "NaN");
                unanswered.extend((!has_data).then_some(query));
            }
            waiting = unanswered;
            sleep(Duration::from_millis(200)).await;
        }
    });
    let has_answered = answered.await.is_ok();
    assert!(has_answered, "these have no data: {waiting:#?}");

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
