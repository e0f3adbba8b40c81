//! The lottery with its events on streams of Redis.

use watermill_testkit::Service;

use super::{WITH_MANY_FAULTS, check, faults::run_while_the_broker_fails, lottery, run, text};

#[test]
fn the_same_seed_gives_the_same_table_on_redis() {
    let run_on_redis = || {
        let output = lottery(&[WITH_MANY_FAULTS, &["--broker", &Service::REDIS.url()]].concat());
        let (table, log) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{table}{log}");
        table
    };
    let table = run_on_redis();
    check(&table);
    assert_eq!(table, run("1", "sqlite://"), "the same seed gives the same table on every broker");
    assert_eq!(table, run_on_redis(), "what the first run has left is not taken for its own");
}

#[test]
fn a_server_that_is_killed_and_frozen_changes_nothing() {
    let table = run("1", "sqlite://");
    assert_eq!(table, run_while_the_broker_fails(Service::REDIS, str::to_owned, "sqlite://"));
}

#[test]
fn a_server_without_an_address_is_refused() {
    let output = lottery(&["--broker", "redis://"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("name a server"), "{}", text(&output.stderr));
}
