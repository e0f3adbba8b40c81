//! The lottery with webhooks: from a database to a service that listens, by the forwarder.

use super::{WITH_MANY_FAULTS, check, lottery, run, text};

#[test]
fn the_same_seed_gives_the_same_table_by_webhooks() {
    let output = lottery(&[WITH_MANY_FAULTS, &["--broker", "http://127.0.0.1:0"]].concat());
    let (table, log) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{table}{log}");
    check(&table);
    assert_eq!(table, run("1", "sqlite://"), "the same seed gives the same table on every broker");
}

#[test]
fn a_broker_without_an_address_is_refused() {
    let output = lottery(&["--broker", "http://"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("name where to listen"), "{}", text(&output.stderr));
}
