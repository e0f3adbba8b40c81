//! The lottery of Watermill's documentation: from a database to Google Pub/Sub, by the forwarder.

use std::process::Command;

use watermill_testkit::{Service, unique};

use super::{WITH_MANY_FAULTS, check, lottery, run, text};

/// Runs in a project of its own: the emulator takes any.
fn run_on_pubsub(args: &[&str], database: &str) -> String {
    let broker = format!("pubsub://{}", unique("lottery"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_lottery"));
    command.args(args).args(["--database", database, "--broker", &broker]);
    let output = command.env("PUBSUB_EMULATOR_HOST", Service::PUBSUB.url()).output().expect("it starts");
    let (table, log) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{table}{log}");
    table
}

#[test]
fn the_same_seed_gives_the_same_table_on_pubsub() {
    let table = run_on_pubsub(WITH_MANY_FAULTS, "sqlite://");
    check(&table);
    assert_eq!(table, run("1", "sqlite://"), "the same seed gives the same table on every broker");
}

#[cfg(feature = "mysql")]
#[test]
fn from_mysql_to_pubsub_only_the_transaction_is_consistent() {
    let table = run_on_pubsub(WITH_MANY_FAULTS, &super::servers::mysql_of_its_own());
    check(&table);
    assert_eq!(table, run("1", "sqlite://"), "the same seed gives the same table on every database");
}

#[cfg(feature = "postgres")]
#[test]
fn from_postgresql_to_pubsub_it_is_the_same() {
    let table = run_on_pubsub(WITH_MANY_FAULTS, &super::servers::postgres_of_its_own());
    assert_eq!(table, run("1", "sqlite://"), "the same seed gives the same table on every database");
}

/// With SQLite, for what is seen is the same on every database.
#[test]
fn the_steps_of_the_readme_have_the_output_that_it_shows() {
    let readme = include_str!("../../../README.md");
    assert!(readme.contains("cargo run --bin lottery --features mysql,pubsub -- --seed 7 \\\n"));
    let output = run_on_pubsub(&["--seed", "7"], "sqlite://");
    let shown: String =
        output.lines().map(|line| format!("   {line}").trim_end().to_owned() + "\n").collect();
    assert!(readme.contains(&shown), "the README shows something else than\n{shown}");
}

#[test]
fn a_broker_without_a_project_is_refused() {
    let output = lottery(&["--broker", "pubsub://"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("name a project"), "{}", text(&output.stderr));
}
