//! The lottery of Watermill's documentation: from a database to Google Pub/Sub, by the forwarder.

use std::process::Command;

use watermill_testkit::{Service, unique};

use super::{check, lottery, run, text};

/// Runs in a project of its own: the emulator takes any.
fn run_on_pubsub(database: &str) -> String {
    let broker = format!("pubsub://{}", unique("lottery"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_lottery"));
    command.args(["--seed", "1", "--draws", "150", "--pace", "0ms", "--failure-rate", "0.4"]);
    command.args(["--database", database, "--broker", &broker]);
    let output = command.env("PUBSUB_EMULATOR_HOST", Service::PUBSUB.url()).output().expect("it starts");
    let (table, log) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{table}{log}");
    table
}

#[test]
fn the_same_seed_gives_the_same_table_on_pubsub() {
    let table = run_on_pubsub("sqlite://");
    check(&table);
    assert_eq!(table, run("1", "sqlite://"), "the same seed gives the same table on every broker");
}

#[cfg(feature = "mysql")]
#[test]
fn from_mysql_to_pubsub_only_the_transaction_is_consistent() {
    let table = run_on_pubsub(&super::servers::mysql_of_its_own());
    check(&table);
    assert_eq!(table, run("1", "sqlite://"), "the same seed gives the same table on every database");
}

#[test]
fn a_broker_without_a_project_is_refused() {
    let output = lottery(&["--broker", "pubsub://"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("name a project"), "{}", text(&output.stderr));
}
