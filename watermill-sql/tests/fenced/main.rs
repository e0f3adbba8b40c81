//! Batches with checkpoints in transactions of the database, the same on every database.

#![cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]

#[expect(dead_code, reason = "nothing of this suite is counted")]
#[macro_use]
#[path = "../databases/mod.rs"]
mod databases;

mod dying;
mod relaying;
mod server;
mod terms;

use sqlx::Pool;
use watermill_core::{Message, fenced::Outgoing};
use watermill_sql::{SqlFencedPublisher, SqlPublisherConfig};

use crate::server::Server;

on_every_database! {
    terms::a_term_begins_with_the_checkpoint_of_the_last_commit_of_its_name,
    terms::queues_are_published_into_as_well,
    terms::a_batch_that_cannot_be_published_leaves_the_checkpoint_where_it_was,
    terms::a_successor_fences_its_predecessor,
    terms::a_successor_waits_for_a_commit_that_is_on_its_way,
    terms::a_name_that_no_database_can_hold_is_refused,
    terms::without_schemas_a_missing_table_is_said,
    dying::commits_that_are_dropped_anywhere_happen_whole_or_not_at_all,
    relaying::relays_that_die_anywhere_publish_everything_once_and_in_order,
    relaying::a_message_that_is_refused_for_ever_and_then_deleted_holds_up_its_key_no_longer,
}

fn publisher<S: Server>(pool: &Pool<S::Database>) -> SqlFencedPublisher<S::Database> {
    SqlFencedPublisher::new(pool.clone(), SqlPublisherConfig::default()).unwrap()
}

fn outgoing(topic: &str, numbers: impl IntoIterator<Item = usize>) -> Outgoing {
    let message = |number: usize| Message::new(number.to_string());
    Outgoing { topic: topic.to_owned(), messages: numbers.into_iter().map(message).collect() }
}

/// The payloads of a topic's table, in order.
async fn texts<S: Server>(pool: &Pool<S::Database>, topic: &str) -> Vec<String> {
    S::texts(pool, &format!("select {} from watermill_{topic} order by {}", S::PAYLOAD, S::OFFSET)).await
}
