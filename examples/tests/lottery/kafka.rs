//! The lottery with its events on Kafka: the relay brings them there, killed now and then.

use watermill_testkit::Service;

use super::{WITH_MANY_FAULTS, check, faults::run_while_the_broker_fails, lottery, run, text};

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

#[test]
fn a_broker_that_is_killed_and_frozen_changes_nothing() {
    let table = run("1", "sqlite://");
    let fails =
        |database: &str| run_while_the_broker_fails(Service::KAFKA, |at| format!("kafka://{at}"), database);
    assert_eq!(table, fails("sqlite://"));
    #[cfg(feature = "postgres")]
    assert_eq!(table, fails(&super::servers::postgres_of_its_own()));
    #[cfg(feature = "mysql")]
    assert_eq!(table, fails(&super::servers::mysql_of_its_own()));
}

#[test]
fn a_broker_without_an_address_is_refused() {
    let output = lottery(&["--broker", "kafka://"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("name a broker"), "{}", text(&output.stderr));
}
