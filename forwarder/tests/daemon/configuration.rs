//! What is wrong is said at once, and secrets are never.

use std::fs;

use crate::support::{Place, SQLITE, text};

#[tokio::test]
async fn everything_that_is_wrong_is_said_at_once_with_its_line() {
    const WRONG: &str = r#"
drain_timeout = 30
[relay.shop]
batch_size = 0
delivry = "exactly-once"
[relay.shop.source]
url = "http://example.com"
lease = "1ms"
[relay.shop.destination]
url = "sqlite:events.db"
options = { acks = "1" }
"#;
    let place = Place::with(WRONG).await;
    let checked = place.verb(&["check"]);
    assert_eq!(checked.status.code(), Some(3));
    let said = text(&checked.stderr);
    for line in [
        "forwarder.toml:2: drain_timeout: 30 of what?",
        "forwarder.toml:4: relay.shop.batch_size: ",
        "forwarder.toml:5: relay.shop.delivry: there is no such option; did you mean relay.shop.delivery?",
        "forwarder.toml:7: relay.shop.source.url: ",
        "forwarder.toml:8: relay.shop.source.lease: ",
        "forwarder.toml:11: relay.shop.destination.options.acks: it means nothing to a database",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    let mut daemon = place.start();
    let (status, lines) = daemon.ended().await;
    assert_eq!(status.code(), Some(3));
    assert!(lines.len() >= 6, "{lines:#?}");

    let checked = place.verb(&["check", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert!(json["problems"].as_array().unwrap().len() >= 6, "{json:#}");
}

#[tokio::test]
async fn what_is_explained_names_who_has_set_it() {
    let place = Place::with(SQLITE).await;
    let environment = [("WATERMILL_FORWARDER__RELAY__SHOP__BATCH_SIZE", "7")];
    let args = ["check", "--explain", "--set", "relay.shop.attempts=never"];
    let checked = place.verb_with(&args, &environment);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
    let said = text(&checked.stdout);
    for line in [
        "relay.shop.source.lease = 3s  # forwarder.toml:8; ",
        "relay.shop.batch_size = 7  # WATERMILL_FORWARDER__RELAY__SHOP__BATCH_SIZE; ",
        "relay.shop.attempts = never  # --set; ",
        "relay.shop.max_blocked = 10000  # default; ",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
}

#[tokio::test]
async fn both_ends_are_reached_and_what_is_missing_is_named() {
    let place = Place::with(SQLITE).await;
    let checked = place.verb(&["check", "--connect"]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));

    let strict = ["--set", "relay.shop.source.create_tables=false", "--set", "relay.shop.topic=other"];
    let checked = place.verb(&[&["check", "--connect"][..], &strict].concat());
    assert_eq!(checked.status.code(), Some(4));
    let said = text(&checked.stderr);
    assert!(said.contains("shop: source: the table \"watermill_other\" is missing"), "{said}");
}

#[tokio::test]
async fn a_secret_is_in_no_line_no_page_and_no_list_of_processes() {
    const SECRET: &str = "hunter2";
    let place = Place::with(SQLITE).await;
    fs::write(place.path("password"), format!("{SECRET}\n")).unwrap();
    let environment = [
        ("WATERMILL_FORWARDER__RELAY__SHOP__SOURCE__PASSWORD", SECRET),
        ("WATERMILL_FORWARDER__RELAY__SHOP__DESTINATION__PASSWORD_FILE", "password"),
    ];
    let daemon = place.start_with(&["--set", "log.level=debug"], &environment);
    place.publish("orders", ["one".to_owned()]).await;
    place.await_arrived("orders", 1).await;
    let command = fs::read(format!("/proc/{}/cmdline", daemon.id())).unwrap();
    assert!(!text(&command).contains(SECRET));
    for page in ["/status", "/metrics", "/health/ready"] {
        assert!(!daemon.get(page).await.1.contains(SECRET), "{page}");
    }
    let (_, lines) = daemon.stop().await;
    assert!(!lines.concat().contains(SECRET));
    let explained = place.verb_with(&["check", "--explain"], &environment);
    assert!(text(&explained.stdout).contains("relay.shop.source.password = ***"));
    assert!(!text(&explained.stdout).contains(SECRET));

    let refused = place.verb(&["check", "--set", "relay.shop.source.url=mysql://me:hunter2@h/d"]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(text(&refused.stderr).contains("everybody who lists processes"), "{}", text(&refused.stderr));
    assert!(!text(&refused.stderr).contains(SECRET));
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn a_source_that_is_away_is_waited_for_and_the_reason_is_told() {
    let place = Place::with(SQLITE).await;
    let away =
        ["--set", "relay.shop.source.url=postgres://me@127.0.0.1:1/d", "--set", "status_interval=100ms"];
    let checked = place.verb(&[&["check", "--connect"][..], &away].concat());
    assert_eq!(checked.status.code(), Some(4));
    assert!(text(&checked.stderr).contains("refused"), "{}", text(&checked.stderr));
    let told = place.verb(&[&["status"][..], &away].concat());
    assert_eq!(told.status.code(), Some(4));
    assert!(text(&told.stdout).contains("refused"), "{}", text(&told.stdout));

    let daemon = place.start_with(&away, &[]);
    let line = daemon.logged("the source does not say what it holds").await;
    assert!(line["error"].as_str().unwrap().contains("refused"), "{line}");
    assert_eq!(daemon.get("/health/live").await.0, 200);
    assert_eq!(daemon.get("/health/ready").await.0, 503);
    let (status, lines) = daemon.stop().await;
    assert_eq!(status.code(), Some(0), "{lines:#?}");
}
