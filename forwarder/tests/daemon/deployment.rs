//! What lies in `deploy/` is of this program.

use std::collections::BTreeSet;

use crate::support::{Place, SQLITE, text};

const ALERTS: &str = include_str!("../../deploy/prometheus-alerts.yml");
const KUBERNETES: &str = include_str!("../../deploy/kubernetes.yaml");
const DOCKERFILE: &str = include_str!("../../deploy/Dockerfile");
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

/// What an image is made of, as far as that can be seen without making one.
#[test]
fn the_image_is_built_by_a_command_that_works_and_starts_what_was_built() {
    let manifest = include_str!("../../Cargo.toml");
    let line = |start: &str| DOCKERFILE.lines().find_map(|line| line.strip_prefix(start)).unwrap();
    for feature in line("ARG FEATURES=").split(',') {
        assert!(manifest.contains(&format!("\n{feature} = [")), "{feature} is no feature");
    }
    let build = line("RUN cargo build ");
    for part in ["--locked", "--release", "-p watermill-forwarder", "--bin watermill-forwarder"] {
        assert!(build.contains(part), "{part}: {build}");
    }
    assert!(manifest.contains("[[bin]]\nname = \"watermill-forwarder\"\n"));
    // The compiler is as new as the crate asks for.
    let version = |text: &str| -> (u32, u32) {
        let (major, minor) = text.split_once('.').unwrap();
        (major.parse().unwrap(), minor.parse().unwrap())
    };
    let compiler = line("FROM rust:").split('-').next().unwrap();
    let wanted = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap();
    assert!(version(compiler) >= version(wanted.trim_matches('"')), "{compiler} < {wanted}");
    // What is built is what is copied, and what is copied is what is started, by nobody of name.
    let copied = line("COPY --from=build ");
    let (from, to) = copied.split_once(' ').unwrap();
    assert_eq!(from, "/src/target/release/watermill-forwarder");
    assert_eq!(line("ENTRYPOINT "), format!("[\"{to}\"]"));
    assert_ne!(line("USER ").split(':').next().unwrap().parse::<u32>().unwrap(), 0);
    let command = line("CMD ");
    assert_eq!(command, r#"["run", "--config", "/etc/watermill/forwarder.toml"]"#);
    assert!(
        KUBERNETES.contains(&format!("args: {command}")) && KUBERNETES.contains("mountPath: /etc/watermill,")
    );
    // Both stages are of one release of Debian, or the libraries would not fit.
    assert!(
        DOCKERFILE.contains("FROM rust:1.95-bookworm AS build\n")
            && DOCKERFILE.contains("FROM debian:bookworm-slim\n")
    );
}
