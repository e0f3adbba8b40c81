//! The orders service as its users run it: a process, its HTTP and its database.

mod client;
#[cfg(feature = "prometheus")]
mod dashboard;
#[cfg(all(feature = "kafka", feature = "postgres"))]
mod killed;
mod service;

use std::collections::HashMap;

use tokio::time::timeout;
use watermill_testkit::patience;

use crate::{client::Client, service::Service};

#[tokio::test]
async fn an_order_is_billed_once_however_often_it_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let mut service = Service::start(&on_sqlite(&folder)).await;
    let client = Client::of(&service);

    assert_eq!(client.place("o-1", 1200).await, Some(201));
    assert_eq!(client.place("o-1", 1200).await, Some(200));
    client.billed("o-1").await;
    assert_eq!(client.invoices("o-2").await, None, "nobody has placed it");

    let (status, metrics) = client.get("/metrics").await.unwrap();
    assert!(status == 200 && metrics.contains("handler_name=\"bill\""), "{metrics}");
    let (status, health) = client.get("/health/ready").await.unwrap();
    assert!(status == 200 && health.contains("relay"), "{health}");

    let output = service.stop().await;
    assert!(output.contains("1 received, 1 acked"), "{output}");
}

#[tokio::test]
async fn an_order_that_cannot_be_billed_is_a_dead_letter_and_keeps_none_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let mut service = Service::start(&on_sqlite(&folder)).await;
    let client = Client::of(&service);

    assert_eq!(client.place("bad", 0).await, Some(201));
    assert_eq!(client.place("good", 1).await, Some(201));
    client.billed("good").await;

    assert_eq!(client.invoices("bad").await, Some(0));
    let output = service.stop().await;
    assert!(output.contains("1 dead-lettered"), "{output}");
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let settings = on_sqlite(&folder);
    let mut service = Service::start(&settings).await;
    let client = Client::of(&service);
    assert_eq!(client.place("o-1", 5).await, Some(201));
    client.billed("o-1").await;
    service.stop().await;

    let mut service = Service::start(&settings).await;
    assert_eq!(Client::of(&service).invoices("o-1").await, Some(1));
    service.stop().await;
}

#[tokio::test]
async fn settings_that_cannot_be_met_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let settings = on_sqlite(&folder);
    for (name, value, reason) in [
        ("BROKER_URL", "pigeon://loft", "connect to pigeon://loft: this build has no such broker"),
        ("DATABASE_URL", "oracle://there", "open oracle://there: this build has no such database"),
        ("LISTEN", "everywhere", "listen on LISTEN=everywhere"),
    ] {
        let mut settings = settings.clone();
        settings.insert(name, value.to_owned());
        let said = in_time(service::refused(&settings)).await;
        assert!(said.contains(reason), "{said}");
    }
}

#[tokio::test]
async fn it_describes_itself_without_connecting_to_anything() {
    let settings = HashMap::from([
        ("DATABASE_URL", "sqlite:/nowhere/orders.db".to_owned()),
        ("BROKER_URL", "memory".to_owned()),
    ]);
    let described = async |what| in_time(service::output(&settings, &["describe", what])).await;
    let text = described("text").await;
    assert!(text.starts_with("memory:orders.placed -> "), "{text}");
    assert!(text.contains("(on failure: retry 5 times, then dead-letter to \"billing.dead\")"), "{text}");
    assert!(described("dot").await.contains("\"handler bill\" -> \"invoices.due\""));
    assert!(described("bill").await.contains("publishes  Invoice to invoices.due, by one of its layers"));
    let document: serde_json::Value = serde_json::from_str(&described("asyncapi").await).unwrap();
    assert_eq!(
        document["components"]["schemas"]["Order"]["required"],
        serde_json::json!(["id", "customer", "cents"])
    );
    assert_eq!(
        document["channels"]["invoices.due"]["messages"]["Invoice"]["$ref"],
        "#/components/messages/Invoice"
    );
    let json: serde_json::Value = serde_json::from_str(&described("json").await).unwrap();
    assert_eq!(json["handlers"][0]["consumes"], serde_json::json!(["Order"]));
}

/// A file in `folder`, the broker in memory, and a free port.
fn on_sqlite(folder: &tempfile::TempDir) -> HashMap<&'static str, String> {
    let database = format!("sqlite:{}", folder.path().join("orders.db").display());
    HashMap::from([
        ("DATABASE_URL", database),
        ("BROKER_URL", "memory".to_owned()),
        ("LISTEN", "127.0.0.1:0".to_owned()),
    ])
}

/// Waits, and fails in the end.
async fn in_time<F: Future>(future: F) -> F::Output {
    timeout(patience(), future).await.expect("it happens in time")
}
