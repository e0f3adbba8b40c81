//! What lies in `deploy/` is of this program.

use std::collections::BTreeSet;

use crate::support::{Place, SQLITE, text};

const ALERTS: &str = include_str!("../../deploy/prometheus-alerts.yml");
const KUBERNETES: &str = include_str!("../../deploy/kubernetes.yaml");
const UNIT: &str = include_str!("../../deploy/watermill-forwarder.service");

#[tokio::test]
async fn every_metric_that_an_alert_names_is_there() {
    let place = Place::with(SQLITE).await;
    let daemon = place.start();
    let (_, metrics) = daemon.get("/metrics").await;
    let names: BTreeSet<&str> = ALERTS
        .split("watermill_forwarder_")
        .skip(1)
        .map(|rest| rest.split(|letter: char| !letter.is_ascii_lowercase() && letter != '_').next().unwrap())
        .collect();
    for name in &names {
        assert!(metrics.contains(&format!("# TYPE watermill_forwarder_{name} ")), "{name}\n{metrics}");
    }
    for alert in ["oldest_message_seconds", "relay_up", "dead_letters_present", "held_back_seconds"] {
        assert!(names.contains(alert), "there is no alert on {alert}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn probes_ask_for_pages_that_are_served() {
    let place = Place::with(SQLITE).await;
    let daemon = place.start();
    let paths = KUBERNETES.split("path: /health/").skip(1);
    let paths: BTreeSet<&str> = paths.map(|rest| rest.split(',').next().unwrap()).collect();
    assert_eq!(paths, BTreeSet::from(["live", "ready"]));
    for path in paths {
        assert_ne!(daemon.get(&format!("/health/{path}")).await.0, 404, "{path}");
    }
    daemon.stop().await;
}

/// What is below `forwarder.toml: |`, until the text is no longer indented.
#[cfg(all(feature = "kafka", feature = "postgres"))]
fn configuration_of_kubernetes() -> String {
    let (_, block) = KUBERNETES.split_once("forwarder.toml: |\n").unwrap();
    let lines = block.lines().take_while(|line| line.starts_with("    "));
    lines.map(|line| format!("{}\n", &line[4..])).collect()
}

#[cfg(all(feature = "kafka", feature = "postgres"))]
#[tokio::test]
async fn the_configurations_that_are_shown_can_work() {
    let place = Place::with(&configuration_of_kubernetes()).await;
    std::fs::write(place.path("password"), "hunter2").unwrap();
    let password = ["--set", "relay.shop.source.password_file=password"];
    let checked = place.verb(&[&["check"][..], &password].concat());
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));

    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/forwarder.toml");
    let checked = place.verb(&[&["check", "--config", example][..], &password].concat());
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
}

#[tokio::test]
async fn the_unit_starts_verbs_that_there_are_and_waits_as_long_as_a_stop_takes() {
    let place = Place::with(SQLITE).await;
    let commands = UNIT.lines().filter_map(|line| line.split_once("/usr/local/bin/watermill-forwarder "));
    let commands: Vec<&str> = commands.map(|(_, args)| args).collect();
    assert_eq!(commands.len(), 2);
    for args in commands {
        let args: Vec<&str> = args.split(' ').chain(["--help"]).collect();
        let help = place.verb(&args);
        assert_eq!(help.status.code(), Some(0), "{args:?}: {}", text(&help.stderr));
    }
    assert!(
        UNIT.contains("\nTimeoutStopSec=25s\n") && KUBERNETES.contains("terminationGracePeriodSeconds: 25\n")
    );
    assert!(include_str!("../../deploy/forwarder.toml").contains("\ndrain_timeout = \"20s\"\n"));
}
