//! Reading in shards, the same on every database.

#![cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]

mod changing;
mod relay;
mod server;
mod sharing;
mod written;

#[cfg(feature = "mysql")]
#[path = "../mysql_database/mod.rs"]
mod mysql_database;
#[cfg(feature = "postgres")]
#[path = "../postgres_database/mod.rs"]
mod postgres_database;

use std::time::Duration;

use tokio::time::timeout;
use watermill_testkit::patience;

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
    changing::a_change_while_writers_write_and_relays_are_killed_reorders_and_loses_nothing,
    changing::exactly_once_a_change_repeats_nothing_either,
    changing::a_group_that_was_read_before_goes_on_where_it_was,
    changing::a_relay_with_another_number_follows_the_one_that_is_stored,
    changing::a_position_that_was_made_anew_after_a_change_keeps_no_rows,
    changing::a_number_that_there_cannot_be_is_refused,
    sharing::shards_are_shared_among_processes_and_taken_over_from_those_that_die,
    sharing::whoever_does_not_read_in_shards_is_refused_where_others_do,
    sharing::a_message_that_is_held_holds_up_its_shard_and_no_other,
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_in_the_order_of_transactions_cannot_be_read_in_shards() {
    sharing::refused_by_snapshot().await;
}

/// Waits until something is so in another process, which nobody tells this one: it looks again and again.
async fn wait_until(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !look().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(patience(), looking).await.is_ok(), "waited {:?} for {what}", patience());
}
