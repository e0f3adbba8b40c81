//! What cannot work is refused when one subscribes, with the reason.

use watermill_core::{Message, Publisher};
use watermill_sql::{SqlPublisher, SqlPublisherConfig};

use super::{outbox::source, *};

async fn refused(subscriber: &dyn Subscriber, topic: &str, reason: &str) {
    let error = subscriber.subscribe(topic).await.expect_err(reason);
    assert!(error.to_string().contains(reason), "{error}");
    assert!(!error.is_retryable(), "{error}");
}

pub(crate) async fn a_table_or_column_that_is_not_there_is_named<S: Outbox>() {
    let server = S::default();
    let pool = server.with_outbox().await;
    refused(&log::<S>(&pool, SqlSource::table("nothing").offset("seq")), "nothing", "does not exist").await;
    let misnamed = "no column \"aggregateid\", but ";
    refused(&queue::<S>(&pool, SqlSource::debezium()), "outbox", misnamed).await;
    refused(&log::<S>(&pool, source().after_ack(AfterAck::mark("done"))), "outbox", "no column \"done\"")
        .await;
}

pub(crate) async fn a_column_that_does_not_count_is_no_order_of_a_log<S: Outbox>() {
    let server = S::default();
    let pool = server.with_outbox().await;
    let named = "SqlSource::offset";
    refused(&log::<S>(&pool, SqlSource::table("outbox")), "outbox", named).await;
    S::execute(&pool, "create table plain (seq bigint primary key, id varchar(36), payload varchar(10))")
        .await;
    let instead = "SqlQueueSubscriberConfig::source";
    refused(&log::<S>(&pool, SqlSource::table("plain").offset("seq")), "plain", instead).await;
    for unsuitable in S::UNSUITABLE {
        S::execute(&pool, "drop table plain").await;
        S::execute(&pool, unsuitable).await;
        refused(&log::<S>(&pool, SqlSource::table("plain").offset("seq")), "plain", instead).await;
    }
}

pub(crate) async fn a_source_has_one_topic_which_has_no_messages_of_its_own<S: Outbox>() {
    let server = S::default();
    let pool = server.with_outbox().await;
    refused(&log::<S>(&pool, source()), "another", "one topic").await;
    refused(&queue::<S>(&pool, source()), "another", "one topic").await;
    let publisher = SqlPublisher::new(pool.clone(), SqlPublisherConfig::default()).unwrap();
    publisher.publish("outbox", vec![Message::new("1")]).await.unwrap();
    refused(&log::<S>(&pool, source()), "outbox", "SqlSource::topic").await;
    refused(&queue::<S>(&pool, source()), "outbox", "SqlSource::topic").await;
}

pub(crate) async fn an_id_that_a_claim_cannot_hold_is_refused_and_any_other_is_worked_on<S: Outbox>() {
    let server = S::default();
    let pool = server.with_outbox().await;
    for wide in S::TOO_WIDE {
        S::execute(&pool, wide).await;
        refused(&queue::<S>(&pool, SqlSource::table("wide")), "wide", "up to 255 characters").await;
        S::execute(&pool, "drop table wide").await;
    }
    S::execute(&pool, "create table narrow (id varchar(255) primary key, payload varchar(9))").await;
    let id = "i".repeat(255);
    S::execute(&pool, &format!("insert into narrow values ('{id}', '1')")).await;
    let mut subscription = queue::<S>(&pool, SqlSource::table("narrow")).subscribe("narrow").await.unwrap();
    let delivery = next(&mut subscription).await;
    assert_eq!(delivery.id().as_str(), id);
    delivery.ack_confirmed().await.unwrap();
}

pub(crate) async fn a_column_that_holds_no_time_tells_of_none<S: Outbox>() {
    let server = S::default();
    let pool = server.with_outbox().await;
    let source = || source().published_at("seq");
    refused(&log::<S>(&pool, source()), "outbox", "holds no time").await;
    refused(&queue::<S>(&pool, source()), "outbox", "holds no time").await;
}
