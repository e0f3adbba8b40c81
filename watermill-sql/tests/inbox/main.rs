//! One atomic step: what a handler writes, what it publishes and the mark of its message, the same on every database.

#![cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]

mod batches;
mod conflicts;
mod joined;
mod joined_log;
mod locks;
mod marks;
mod once;
mod server;
mod steps;
#[cfg(feature = "sqlite")]
mod unanswered;

#[cfg(feature = "mysql")]
#[path = "../mysql_database/mod.rs"]
mod mysql_database;
#[cfg(feature = "postgres")]
#[path = "../postgres_database/mod.rs"]
mod postgres_database;

use std::sync::Arc;

use sqlx::Pool;
use watermill_core::{
    Message, Router,
    error::BoxError,
    router::{Phase, Report},
};
use watermill_sql::{SqlInbox, SqlInboxConfig};

use crate::server::Server;

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
    steps::what_a_handler_writes_and_what_it_returns_are_committed_together,
    steps::a_duplicate_is_acked_and_its_handler_does_not_run,
    steps::a_handler_is_told_of_a_duplicate_where_that_is_wanted,
    steps::an_error_a_panic_and_a_timeout_roll_everything_back,
    steps::a_delivery_that_is_lost_while_it_is_handled_writes_nothing,
    steps::what_a_layer_inside_has_dead_lettered_is_counted_as_that,
    steps::a_retry_of_the_policy_is_a_transaction_of_its_own,
    steps::a_retry_inside_of_the_transaction_is_refused,
    steps::a_handler_that_keeps_its_transaction_commits_nothing,
    steps::a_transaction_that_the_handler_has_ended_is_no_success,
    steps::outputs_that_cannot_be_published_roll_back_what_was_written,
    steps::outputs_go_through_the_publisher_that_the_inbox_was_given,
    steps::a_handler_whose_layer_was_forgotten_is_refused_at_the_start,
    marks::ids_that_repeat_across_topics_are_other_messages,
    marks::two_handlers_with_one_inbox_each_handle_a_message,
    marks::two_handlers_with_one_name_handle_a_message_once_between_them,
    marks::an_id_that_is_longer_than_its_column_is_known_again,
    marks::a_message_without_an_id_is_handled_each_time,
    marks::two_that_have_the_same_message_at_once_handle_it_once,
    marks::old_marks_are_deleted_in_batches_and_young_ones_stay,
    marks::no_table_is_made_where_that_is_not_wanted,
    once::a_step_without_a_router_runs_once,
    once::a_step_that_fails_or_is_dropped_can_be_run_again,
    batches::a_batch_is_one_transaction,
    batches::what_fails_leaves_the_rest_of_its_batch_alone,
    batches::duplicates_are_not_in_the_batch,
    joined::an_ack_is_part_of_the_transaction_and_leaves_no_mark,
    joined::what_was_committed_is_done_whatever_becomes_of_its_delivery,
    joined::a_message_of_another_source_is_nacked_with_the_reason,
    joined_log::a_position_moves_in_the_transaction_and_leaves_no_mark,
    joined_log::a_position_does_not_move_without_the_transaction,
    joined_log::what_is_done_ahead_is_known_to_whoever_reads_on,
    joined_log::a_message_of_another_database_that_is_alike_moves_nothing,
    joined_log::a_dead_letter_that_is_passed_is_kept_by_the_same_transaction,
    joined_log::steps_of_a_log_that_run_side_by_side_are_each_done_once,
    joined_log::a_batch_of_a_log_is_acked_in_its_transaction,
    locks::a_step_goes_on_behind_a_renewal_whatever_the_session_has,
    locks::an_isolation_that_renewals_would_break_is_refused_with_the_reason,
    conflicts::steps_in_the_way_of_each_other_are_run_again_and_lose_no_update,
    conflicts::a_step_is_run_as_often_as_the_bound_says,
}

/// A database with the table `effects`.
async fn prepared<S: Server>(server: &S) -> Pool<S::Database> {
    let pool = server.connect().await;
    S::execute(&pool, "create table effects (id varchar(300))").await;
    pool
}

fn inbox<S: Server>(pool: &Pool<S::Database>, config: SqlInboxConfig) -> SqlInbox<S::Database> {
    SqlInbox::new(pool.clone(), config).unwrap()
}

/// Runs a router until something has happened, and lets it drain.
async fn run_until(router: Router, happened: impl Future<Output = ()>) -> Report {
    let control = router.control();
    let task = tokio::spawn(router.run());
    control.reached(Phase::Running).await;
    tokio::time::timeout(watermill_testkit::patience(), happened).await.expect("it happens");
    control.stop();
    task.await.expect("the router does not panic").expect("it drains")
}

async fn effects<S: Server>(pool: &Pool<S::Database>) -> i64 {
    S::number(pool, "select count(*) from effects").await
}

/// Messages in the table of `invoices`, whether there is one or not.
async fn invoices<S: Server>(pool: &Pool<S::Database>) -> i64 {
    match S::has_table(pool, "watermill_invoices").await {
        true => S::number(pool, "select count(*) from watermill_invoices").await,
        false => 0,
    }
}

async fn marks<S: Server>(pool: &Pool<S::Database>) -> i64 {
    S::number(pool, "select count(*) from _watermill_inbox").await
}

async fn assert_nothing_was_written<S: Server>(pool: &Pool<S::Database>) {
    let written = (effects::<S>(pool).await, invoices::<S>(pool).await, marks::<S>(pool).await);
    assert_eq!(written, (0, 0, 0));
}

/// Counts.
#[derive(Clone, Default)]
struct Count(Arc<std::sync::atomic::AtomicUsize>);

impl Count {
    fn up(&self) -> usize {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1
    }

    fn get(&self) -> usize {
        self.0.load(std::sync::atomic::Ordering::SeqCst)
    }
}

fn message(id: &str) -> Message {
    Message::with_id(id.to_owned(), "{}")
}

/// JSON, which every database's default column holds.
fn invoice(of: &str) -> Result<Message, BoxError> {
    Ok(Message::new(serde_json::to_vec(of)?))
}
