//! What an operator asks of it, and what it answers.

use serde_json::Value;

use crate::support::{Place, SQLITE, text, wait_until};

fn orders(range: std::ops::Range<usize>) -> impl Iterator<Item = String> {
    range.map(|number| format!("order {number}"))
}

#[tokio::test]
async fn health_and_metrics_are_served() {
    let place = Place::with(SQLITE).await;
    let daemon = place.start_with(&["--set", "status_interval=50ms"], &[]);
    place.publish("orders", orders(0..10)).await;
    place.await_arrived("orders", 10).await;
    assert_eq!(daemon.get("/health/live").await, (200, "ok\n".to_owned()));
    wait_until("it to be ready", async || daemon.get("/health/ready").await.0 == 200).await;
    let forwarded = "watermill_forwarder_forwarded_total{relay=\"shop\",destination=\"orders\"} 10\n";
    wait_until("the metrics to tell", async || daemon.get("/metrics").await.1.contains(forwarded)).await;
    let (status, metrics) = daemon.get("/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "watermill_forwarder_relay_up{relay=\"shop\"} 1\n",
        "watermill_forwarder_publish_attempts_total{relay=\"shop\",outcome=\"ok\"} ",
        "watermill_forwarder_batch_messages_sum{relay=\"shop\"} 10\n",
        "watermill_forwarder_outbox_seconds_count{relay=\"shop\"} 10\n",
        "watermill_forwarder_held_back_seconds{relay=\"shop\"} 0\n",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    assert_eq!(daemon.get("/nothing").await.0, 404);
    assert_eq!(daemon.get("/pause").await.0, 405);
    daemon.stop().await;
}

#[tokio::test]
async fn a_destination_that_is_paused_waits_until_it_is_resumed() {
    let place = Place::with(SQLITE).await;
    let daemon = place.start();
    let address = daemon.address().await;
    let admin = format!("admin.listen={address}");
    place.publish("orders", orders(0..1)).await;
    place.await_arrived("orders", 1).await;

    let paused = place.verb(&["pause", "orders", "--set", &admin]);
    assert_eq!(paused.status.code(), Some(0), "{}", text(&paused.stderr));
    place.publish("orders", orders(1..2)).await;
    place.publish("invoices", orders(0..1)).await;
    place.await_arrived("invoices", 1).await;
    let status = || place.verb(&["status", "--json", "--set", &admin]);
    let status: Value = serde_json::from_slice(&status().stdout).unwrap();
    let process = &status["relays"][0]["process"];
    assert_eq!(process["paused"][0]["destination"], "orders", "{status:#}");
    let arrived = async || place.arrived("orders").await.iter().any(|row| row.message.payload() == "order 1");
    assert!(!arrived().await, "what is paused waits");

    let resumed = place.verb(&["resume", "orders", "--set", &admin]);
    assert_eq!(resumed.status.code(), Some(0), "{}", text(&resumed.stderr));
    wait_until("what was paused to arrive", arrived).await;
    let again = place.verb(&["resume", "orders", "--set", &admin]);
    assert_eq!(again.status.code(), Some(4), "what was not paused is not resumed");
    daemon.stop().await;
}

#[tokio::test]
async fn only_json_steers() {
    let place = Place::with(SQLITE).await;
    let daemon = place.start();
    let part = r#"{"relay":"shop","destination":"orders"}"#;
    assert_eq!(daemon.post("/pause", "text/plain", part).await.0, 415, "a page in a browser could send this");
    assert_eq!(daemon.post("/pause", "application/json", "{").await.0, 400);
    let other = r#"{"relay":"other","destination":"orders"}"#;
    assert_eq!(daemon.post("/pause", "application/json", other).await.0, 404);
    wait_until("the relay to have started", async || {
        daemon.post("/pause", "application/json", part).await.0 == 200
    })
    .await;
    daemon.stop().await;
}

#[tokio::test]
async fn the_status_is_told_without_the_process_and_with_it() {
    let place = Place::with(SQLITE).await;
    place.publish("orders", orders(0..3)).await;
    let args = ["status", "--json", "--set", "admin.listen=127.0.0.1:1"];
    let told = place.verb(&args);
    assert_eq!(told.status.code(), Some(0), "{}", text(&told.stderr));
    let mut status: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert!(status["process"]["error"].take().is_string());
    assert!(status["relays"][0]["holds"]["oldest_seconds"].take().is_f64());
    let expected = serde_json::json!({
        "process": { "address": "127.0.0.1:1", "error": null },
        "relays": [{
            "relay": "shop",
            "topic": "forwarder_topic",
            "source": "sqlite:outbox.db",
            "destination": "sqlite:events.db",
            "delivery": "at-least-once",
            "holds": {
                "backlog": 3,
                "backlog_is_exact": true,
                "oldest_seconds": null,
                "active": null,
                "writers": [],
                "has_dead_letters": false,
            },
            "error": null,
            "process": null,
        }],
    });
    assert_eq!(status, expected, "{status:#}");

    let table = text(&place.verb(&["status", "--set", "admin.listen=127.0.0.1:1"]).stdout);
    assert!(table.contains("messages wait, and nobody reads them"), "{table}");
    assert!(!table.contains('\x1b'), "colours are for a terminal: {table}");

    let daemon = place.start();
    place.await_arrived("orders", 3).await;
    let admin = format!("admin.listen={}", daemon.address().await);
    let status = || {
        let told = place.verb(&["status", "--json", "--set", &admin]);
        serde_json::from_slice::<Value>(&told.stdout).unwrap()
    };
    wait_until("the source and the process to tell", async || {
        let relay = &status()["relays"][0];
        relay["process"]["forwarded"] == 3 && relay["holds"]["active"].is_string()
    })
    .await;
    let status = status();
    assert_eq!(status["process"]["error"], Value::Null);
    assert_eq!(status["relays"][0]["process"]["phase"], "running");
    daemon.stop().await;
}

#[tokio::test]
async fn a_line_that_repeats_is_counted_and_not_repeated() {
    let away = SQLITE.replace("sqlite:events.db", "sqlite:nowhere/events.db");
    let place = Place::with(&away).await;
    let daemon =
        place.start_with(&["--set", "relay.shop.backoff_max=50ms", "--set", "log.repeat_interval=1s"], &[]);
    place.publish("orders", orders(0..1)).await;
    wait_until("a line that says how often", async || {
        daemon.lines().iter().any(|line| line.contains("\"repeated\":"))
    })
    .await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_stop_is_over_in_time_though_the_destination_is_away() {
    let away = SQLITE.replace("sqlite:events.db", "sqlite:nowhere/events.db");
    let place = Place::with(&away).await;
    let daemon = place.start_with(&["--set", "drain_timeout=1s"], &[]);
    place.publish("orders", orders(0..10)).await;
    let address = daemon.address().await;
    let admin = format!("admin.listen={address}");
    wait_until("messages to be held", async || {
        let told = place.verb(&["status", "--json", "--set", &admin]);
        let status: Value = serde_json::from_slice(&told.stdout).unwrap();
        status["relays"][0]["process"]["held"][0]["messages"] == 10
    })
    .await;
    let (status, lines) = daemon.stop().await;
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("\"returned\":10")), "{lines:#?}");
}
