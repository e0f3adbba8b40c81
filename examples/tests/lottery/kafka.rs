//! The lottery with its events on Kafka: the relay brings them there, killed now and then.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    thread,
};

use watermill_testkit::{PrivateServer, Service};

use super::{WITH_MANY_FAULTS, check, lottery, run, text};

fn run_on_kafka(database: &str) -> String {
    let broker = format!("kafka://{}", Service::KAFKA.url());
    let output = lottery(&[WITH_MANY_FAULTS, &["--database", database, "--broker", &broker]].concat());
    let (table, log) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{table}{log}");
    table
}

#[test]
fn the_same_seed_gives_the_same_table_on_kafka() {
    let table = run_on_kafka("sqlite://");
    check(&table);
    assert_eq!(table, run("1", "sqlite://"), "the same seed gives the same table on every broker");
    assert_eq!(table, run_on_kafka("sqlite://"), "what the first run has left is not taken for its own");
    #[cfg(feature = "postgres")]
    assert_eq!(table, run_on_kafka(&super::servers::postgres_of_its_own()));
    #[cfg(feature = "mysql")]
    assert_eq!(table, run_on_kafka(&super::servers::mysql_of_its_own()));
}

/// Runs while the broker is killed and started again, and while it is frozen for a moment.
fn run_while_the_broker_fails(database: &str) -> String {
    let broker = PrivateServer::start(Service::KAFKA);
    let url = format!("kafka://{}", broker.url());
    // Draws that take as long as the faults do.
    let args = ["--seed", "1", "--draws", "150", "--pace", "20ms", "--failure-rate", "0.4"];
    let mut lottery = Command::new(env!("CARGO_BIN_EXE_lottery"))
        .args(args)
        .args(["--database", database, "--broker", &url])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the lottery starts");
    // It refuses to start without its broker: what breaks breaks when draws are on their way.
    let mut said = BufReader::new(lottery.stderr.take().expect("it is piped")).lines();
    let mut log =
        said.by_ref().map_while(Result::ok).take_while(|line| !line.contains(" draws, ")).collect::<Vec<_>>();
    // Nobody who speaks waits for a reader.
    let rest = thread::spawn(move || said.map_while(Result::ok).collect::<Vec<_>>());
    broker.kill();
    broker.start_again();
    broker.freeze();
    broker.thaw();
    broker.kill();
    broker.start_again();
    let output = lottery.wait_with_output().expect("it ends");
    log.extend(rest.join().expect("it reads"));
    assert!(output.status.success(), "{}{}", text(&output.stdout), log.join("\n"));
    text(&output.stdout)
}

#[test]
fn a_broker_that_is_killed_and_frozen_changes_nothing() {
    let table = run("1", "sqlite://");
    assert_eq!(table, run_while_the_broker_fails("sqlite://"));
    #[cfg(feature = "postgres")]
    assert_eq!(table, run_while_the_broker_fails(&super::servers::postgres_of_its_own()));
    #[cfg(feature = "mysql")]
    assert_eq!(table, run_while_the_broker_fails(&super::servers::mysql_of_its_own()));
}

#[test]
fn a_broker_without_an_address_is_refused() {
    let output = lottery(&["--broker", "kafka://"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("name a broker"), "{}", text(&output.stderr));
}
