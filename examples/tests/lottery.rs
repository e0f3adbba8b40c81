//! The lottery as its users start it.

#[cfg(any(feature = "postgres", feature = "mysql"))]
#[path = "lottery/servers.rs"]
mod servers;

#[cfg(feature = "kafka")]
#[path = "lottery/kafka.rs"]
mod kafka;

#[cfg(feature = "pubsub")]
#[path = "lottery/pubsub.rs"]
mod pubsub;

#[cfg(any(feature = "kafka", feature = "redis"))]
#[path = "lottery/faults.rs"]
mod faults;

#[cfg(feature = "redis")]
#[path = "lottery/redis.rs"]
mod redis;

#[cfg(feature = "amqp")]
#[path = "lottery/amqp.rs"]
mod amqp;

#[cfg(feature = "nats")]
#[path = "lottery/nats.rs"]
mod nats;

#[cfg(feature = "http")]
#[path = "lottery/http.rs"]
mod http;

use std::process::{Command, Output};

/// Two draws of five crash, and the relay is killed now and then.
#[cfg(any(
    feature = "kafka",
    feature = "pubsub",
    feature = "redis",
    feature = "nats",
    feature = "amqp",
    feature = "http"
))]
const WITH_MANY_FAULTS: &[&str] =
    &["--seed", "1", "--draws", "150", "--pace", "0ms", "--failure-rate", "0.4"];

fn lottery(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lottery")).args(args).output().expect("the lottery starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// The numbers of a strategy's row: draws, committed, events, winners never announced, events without a
/// winner, prizes sent.
fn row(table: &str, strategy: &str) -> Vec<u32> {
    let line = table.lines().find(|line| line.contains(strategy)).expect("a row for each strategy");
    line.split('│').filter_map(|cell| cell.trim().parse().ok()).collect()
}

fn run(seed: &str, database: &str) -> String {
    let common = ["--draws", "150", "--pace", "0ms", "--failure-rate", "0.4"];
    let output = lottery(&[&common[..], &["--seed", seed, "--database", database]].concat());
    let (table, log) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{table}{log}");
    table
}

#[test]
fn the_same_seed_gives_the_same_table_and_only_the_transaction_is_consistent() {
    for seed in ["1", "2"] {
        let table = run(seed, "sqlite://");
        assert_eq!(table, run(seed, "sqlite://"));
        check(&table);
    }
    assert_ne!(run("1", "sqlite://"), run("2", "sqlite://"));
}

/// What faults do to each strategy.
fn check(table: &str) {
    let [published, stored, both] =
        ["publish, then store", "store, then publish", "one transaction"].map(|name| row(table, name));
    assert_eq!(published[0] + stored[0] + both[0], 150);
    let inconsistent = |row: &[u32]| (row[3], row[4]);
    assert!(inconsistent(&published).0 == 0 && inconsistent(&published).1 > 0, "{table}");
    assert!(inconsistent(&stored).0 > 0 && inconsistent(&stored).1 == 0, "{table}");
    assert_eq!(inconsistent(&both), (0, 0), "{table}");
    // Some of its draws crashed, and neither their rows nor their events are there.
    assert!(both[1] < both[0], "{table}");
    assert_eq!((both[1], both[1]), (both[2], both[5]), "{table}");
    assert!(table.contains("was killed"), "{table}");
}

#[test]
fn without_faults_every_strategy_is_consistent() {
    let output = lottery(&["--seed", "1", "--draws", "60", "--pace", "0ms", "--failure-rate", "0"]);
    let table = text(&output.stdout);
    for strategy in ["publish, then store", "store, then publish", "one transaction"] {
        let row = row(&table, strategy);
        assert_eq!(row, [row[0], row[0], row[0], 0, 0, row[0]], "{table}");
    }
}

#[test]
fn a_database_can_be_used_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}", folder.path().join("lottery.db").display());
    let args = ["--seed", "7", "--draws", "60", "--pace", "0ms", "--database", &url];
    let (first, second) = (lottery(&args), lottery(&args));
    assert!(first.status.success(), "{}", text(&first.stderr));
    assert_eq!(text(&first.stdout), text(&second.stdout));
}

#[test]
fn what_this_build_cannot_use_is_refused_with_what_it_can() {
    for (option, url, supported) in [
        ("--broker", "pigeon://localhost", "memory"),
        ("--database", "oracle://localhost/x", "sqlite://PATH"),
    ] {
        let output = lottery(&[option, url]);
        assert_eq!(output.status.code(), Some(2));
        let log = text(&output.stderr);
        assert!(log.contains(&format!("this build, which has: {supported}")), "{log}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_database_that_cannot_be_opened_is_named() {
    let output = lottery(&["--database", "sqlite:///no/such/folder/lottery.db"]);
    assert_eq!(output.status.code(), Some(1));
    let log = text(&output.stderr);
    assert!(log.contains("failed to open the database /no/such/folder/lottery.db"), "{log}");
}
