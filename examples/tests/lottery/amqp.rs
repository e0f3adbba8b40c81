//! The lottery on RabbitMQ, with faults.

use watermill_testkit::Service;

use super::{WITH_MANY_FAULTS, check, lottery, run, text};

#[test]
fn the_same_seed_gives_the_same_table_on_rabbitmq() {
    let output = lottery(&[WITH_MANY_FAULTS, &["--broker", &Service::RABBITMQ.url()]].concat());
    let (table, log) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{table}{log}");
    check(&table);
    assert_eq!(table, run("1", "sqlite://"), "the same seed gives the same table on every broker");
}

#[test]
fn a_rabbitmq_without_a_server_is_refused() {
    let output = lottery(&["--broker", "amqp://"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("name a server"), "{}", text(&output.stderr));
}
