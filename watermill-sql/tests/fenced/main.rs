//! Batches with checkpoints in transactions of the database, the same on every database.

#![cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]

mod dying;
mod relaying;
mod server;
mod terms;

#[cfg(feature = "mysql")]
#[path = "../mysql_database/mod.rs"]
mod mysql_database;
#[cfg(feature = "postgres")]
#[path = "../postgres_database/mod.rs"]
mod postgres_database;

use sqlx::Pool;
use watermill_core::{Message, fenced::Outgoing};
use watermill_sql::{SqlFencedPublisher, SqlPublisherConfig};

use crate::server::Server;

macro_rules! on {
    ($server:ty, $($area:ident::$test:ident,)*) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() { crate::$area::$test::<$server>().await; }
    )* };
}

macro_rules! on_every_database {
    ($($area:ident::$test:ident,)*) => {
        #[cfg(feature = "sqlite")]
        mod sqlite {
            on!(crate::server::File, $($area::$test,)*);
        }
        #[cfg(feature = "postgres")]
        mod postgres {
            on!(crate::postgres_database::Database, $($area::$test,)*);
        }
        #[cfg(feature = "mysql")]
        mod mysql {
            on!(crate::mysql_database::Database, $($area::$test,)*);
        }
    };
}

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
