//! Tables that are not ours, read as logs and worked on as queues, on every database.

#![cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]

#[cfg(feature = "mysql")]
#[path = "../mysql_database/mod.rs"]
mod mysql_database;
#[cfg(feature = "postgres")]
#[path = "../postgres_database/mod.rs"]
mod postgres_database;
#[expect(dead_code, reason = "the tests of reading ask for more")]
#[path = "../reading/server.rs"]
mod server;

mod deleted;
mod logs;
mod outbox;
mod queues;
mod refused;
mod relaying;

use futures::StreamExt;
use outbox::Outbox;
use sqlx::Pool;
use watermill_core::{Delivery, Subscriber, Subscription, error::SubscribeErrorKind};
use watermill_sql::{
    AfterAck, SqlQueueSubscriber, SqlQueueSubscriberConfig, SqlSource, SqlSubscriber, SqlSubscriberConfig,
};

/// Every test on every database that is compiled in.
macro_rules! on_every_database {
    ($($area:ident::$test:ident,)*) => {
        #[cfg(feature = "sqlite")]
        mod sqlite { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { crate::$area::$test::<crate::server::File>().await; }
        )* }
        #[cfg(feature = "postgres")]
        mod postgres { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { crate::$area::$test::<crate::postgres_database::Database>().await; }
        )* }
        #[cfg(feature = "mysql")]
        mod mysql { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { crate::$area::$test::<crate::mysql_database::Database>().await; }
        )* }
    };
}

on_every_database! {
    logs::columns_become_id_payload_key_and_metadata,
    logs::positions_are_ours_and_the_table_stays_as_it_is,
    logs::what_commits_late_is_read_in_its_place_and_what_is_rolled_back_is_passed,
    logs::a_row_that_was_acked_is_deleted_and_no_other,
    logs::a_row_that_was_acked_is_marked,
    logs::a_row_that_was_rejected_is_moved_to_the_dead_letters,
    logs::a_row_that_is_no_message_is_moved_to_the_dead_letters,
    queues::a_table_with_a_uuid_is_a_queue_for_many_workers,
    queues::a_row_that_was_acked_is_kept_and_comes_no_more,
    queues::a_row_that_was_acked_is_marked_and_what_is_marked_is_left_alone,
    queues::a_nacked_row_comes_again_and_a_rejected_one_is_moved,
    queues::what_a_worker_that_died_had_comes_again,
    deleted::a_row_of_a_log_that_is_deleted_while_it_is_in_hand_is_lost_and_the_rest_goes_on,
    deleted::a_row_of_a_log_that_is_deleted_after_a_nack_holds_up_nothing,
    deleted::a_row_of_a_queue_that_is_deleted_while_it_is_in_hand_is_lost_and_the_rest_goes_on,
    deleted::a_row_of_a_source_that_is_deleted_while_it_is_in_hand_is_lost_and_the_rest_goes_on,
    relaying::an_outbox_that_somebody_has_is_relayed_and_its_rows_are_kept_deleted_or_marked,
    relaying::a_row_without_a_destination_is_dead_lettered_with_the_reason,
    relaying::a_row_that_is_refused_for_ever_and_then_deleted_holds_up_its_key_no_longer,
    refused::a_table_or_column_that_is_not_there_is_named,
    refused::a_column_that_does_not_count_is_no_order_of_a_log,
    refused::a_source_has_one_topic_which_has_no_messages_of_its_own,
}

fn log<S: Outbox>(pool: &Pool<S::Database>, source: SqlSource) -> SqlSubscriber<S::Database> {
    let config = SqlSubscriberConfig::default().lease(std::time::Duration::from_millis(900)).source(source);
    SqlSubscriber::new(pool.clone(), config).unwrap()
}

fn queue<S: Outbox>(pool: &Pool<S::Database>, source: SqlSource) -> SqlQueueSubscriber<S::Database> {
    let config = SqlQueueSubscriberConfig::default()
        .visibility_timeout(std::time::Duration::from_millis(900))
        .source(source);
    SqlQueueSubscriber::new(pool.clone(), config).unwrap()
}

/// The next message. A database that is slow to answer says so on the stream, and is asked again.
async fn next(subscription: &mut Subscription) -> Delivery {
    let next = async {
        loop {
            match subscription.next().await.expect("the stream goes on") {
                Ok(delivery) => return delivery,
                Err(error) => assert!(error.is_retryable(), "{error:?}"),
            }
        }
    };
    let next = tokio::time::timeout(watermill_testkit::patience(), next).await;
    next.unwrap_or_else(|_| panic!("nothing comes: {:?}", subscription.status().health))
}

/// Acks as many messages, which is recorded then, and returns their payloads.
async fn read(subscription: &mut Subscription, count: usize) -> Vec<String> {
    let mut payloads = Vec::new();
    for _ in 0..count {
        let delivery = next(subscription).await;
        payloads.push(payload(&delivery));
        delivery.ack_confirmed().await.unwrap();
    }
    payloads
}

fn payload(delivery: &Delivery) -> String {
    String::from_utf8(delivery.payload().to_vec()).unwrap()
}
