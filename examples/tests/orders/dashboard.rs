//! What Grafana shows of the service.

use std::{convert::Infallible, fs, time::Duration};

use tokio::time::sleep;
use watermill_telemetry::metrics::ALL;
use watermill_testkit::prometheus::{Prometheus, panels};

use crate::{client::Client, on_sqlite, service::Service};

const DASHBOARD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../watermill-telemetry/grafana/watermill.json");

#[tokio::test]
async fn the_panels_of_the_dashboard_have_data() {
    let folder = tempfile::tempdir().unwrap();
    let mut service = Service::start(&on_sqlite(&folder)).await;
    let prometheus = Prometheus::start(&service.address, None).await;
    let client = Client::of(&service);
    for (id, cents) in [("bad", 0), ("good", 300)] {
        assert_eq!(client.place(id, cents).await, Some(201));
    }
    client.billed("good").await;

    // What nothing of it has ever done is not on its page: it publishes no batch by itself, and nothing went wrong.
    let (_, page) = client.get("/metrics").await.unwrap();
    let is_shown = |name: &str| page.contains(&format!("# TYPE {name} "));
    let is_asked = |query: &String| {
        let named: Vec<&str> =
            ALL.iter().map(|metric| metric.name).filter(|name| query.contains(name)).collect();
        !named.is_empty() && named.into_iter().all(is_shown)
    };
    let dashboard = fs::read_to_string(DASHBOARD).expect("the dashboard is beside the examples");
    let queries: Vec<String> = panels(&dashboard).into_iter().filter(is_asked).collect();
    assert!(queries.len() > 25, "{queries:#?}");
    tokio::select! {
        () = prometheus.answers(queries) => {}
        // A rate is one of what happens.
        never = place_for_ever(&client) => match never {},
    }
    service.stop().await;
}

async fn place_for_ever(client: &Client) -> Infallible {
    let mut number = 0;
    loop {
        number += 1;
        assert_eq!(client.place(&format!("o-{number}"), 1200).await, Some(201));
        sleep(Duration::from_millis(100)).await;
    }
}
