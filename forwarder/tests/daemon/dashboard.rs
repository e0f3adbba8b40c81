//! What Grafana shows of it.

use std::{convert::Infallible, fs, time::Duration};

use tokio::time::sleep;
use watermill_testkit::prometheus::{Prometheus, panels};

use crate::support::{Place, SQLITE};

const DASHBOARD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../watermill-telemetry/grafana/watermill.json");
/// How the names of its metrics begin.
const OWN: &str = "watermill_forwarder_";
/// A destination that refuses what is no JSON.
const SETTINGS: [&str; 6] = [
    "--set",
    "status_interval=50ms",
    "--set",
    "relay.shop.destination.payload=json",
    "--set",
    "relay.shop.attempts=1",
];

#[tokio::test]
async fn the_panels_of_relays_have_data() {
    let place = Place::with(SQLITE).await;
    let daemon = place.start_with(&SETTINGS, &[]);
    let prometheus = Prometheus::start(daemon.address().await, None).await;

    let dashboard = fs::read_to_string(DASHBOARD).expect("the dashboard is beside the forwarder");
    // Nothing is held here, or for a moment.
    let is_own = |query: &String| {
        !query.contains("held_messages") && query.matches("watermill_").count() == query.matches(OWN).count()
    };
    let queries: Vec<String> =
        panels(&dashboard).into_iter().filter(|query| query.contains(OWN)).filter(is_own).collect();
    assert!(queries.len() > 15, "{queries:#?}");
    tokio::select! {
        () = prometheus.answers(queries) => {}
        // A rate is one of what happens.
        never = publish_for_ever(&place) => match never {},
    }
    daemon.stop().await;
}

/// One message that arrives, and one that its destination refuses.
async fn publish_for_ever(place: &Place) -> Infallible {
    loop {
        place.publish("orders", ["{}".to_owned(), "no JSON".to_owned()]).await;
        sleep(Duration::from_millis(100)).await;
    }
}
