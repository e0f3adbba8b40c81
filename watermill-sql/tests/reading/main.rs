//! Reading logs, on every database.

#![cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]

#[macro_use]
#[path = "../databases/mod.rs"]
mod databases;

mod clocks;
mod counters;
mod dead_letters;
mod held_back;
mod large;
mod latest;
mod renewing;
mod replaying;
mod server;
mod status;
mod taking_over;
mod unreadable;
mod upgrading;
mod watching;

use std::time::Duration;

use futures::{FutureExt, StreamExt};
use server::Server;
use sqlx::Pool;
use watermill_core::{
    Backoff, Delivery, Message, Publisher, Subscriber, Subscription,
    error::{SubscribeError, SubscribeErrorKind},
};
use watermill_sql::{
    Layout, SqlPublisher, SqlPublisherConfig, SqlQueueSubscriber, SqlQueueSubscriberConfig, SqlSubscriber,
    SqlSubscriberConfig, StartPosition,
};

on_every_database! {
    unreadable::a_row_that_cannot_be_read_is_reported_and_held_until_it_is_mended,
    unreadable::a_row_that_cannot_be_read_is_held_until_it_is_deleted,
    dead_letters::a_reason_with_a_nul_is_written_without_it,
    dead_letters::a_dead_letter_that_is_refused_is_kept_with_less,
    held_back::nobody_waits_for_longer_than_a_writer_is_there_while_rows_flow,
    held_back::the_age_of_who_holds_a_reader_back_is_its_own_and_not_that_of_the_wait,
    large::rows_that_do_not_fit_into_one_fetch_come_in_order_and_once,
    large::a_worker_claims_no_more_than_fits,
    latest::a_group_that_begins_at_the_latest_row_gets_what_commits_late_and_nothing_that_was_there,
    latest::a_group_that_begins_at_the_latest_row_of_a_table_with_gaps_gets_what_comes_after,
    counters::a_counter_that_begins_anew_under_a_reader_is_noticed_and_the_remedy_works,
    counters::a_counter_that_is_past_the_position_again_is_noticed_under_a_reader,
    counters::a_counter_that_is_past_the_position_again_is_refused_at_the_start,
    counters::what_retention_deletes_is_no_counter_that_begins_anew,
    status::the_status_of_a_log_tells_of_each_group_where_it_is_and_who_reads,
    replaying::a_range_of_offsets_is_replayed_and_no_group_moves,
    replaying::a_range_of_times_is_replayed,
    replaying::what_is_no_log_is_not_replayed,
    status::the_status_of_a_log_tells_who_writes,
    status::a_large_backlog_is_not_counted,
    status::the_status_of_a_queue_tells_what_waits_for_what,
    status::rows_are_looked_at_and_stay,
    status::what_is_not_there_is_said_and_not_made,
    taking_over::who_stands_by_takes_over_when_the_connection_of_the_owner_is_gone,
    taking_over::who_stands_by_leaves_a_lease_alone_whose_owner_is_connected,
    taking_over::an_owner_whose_pool_closes_its_connections_keeps_its_lease,
    upgrading::a_table_of_the_first_release_is_brought_up_to_date,
    upgrading::without_the_right_to_alter_a_table_of_the_first_release_is_refused_with_the_statement,
    upgrading::a_lease_that_the_first_release_has_is_its_own_until_it_ends,
    upgrading::two_releases_side_by_side_hand_a_group_to_and_fro,
    upgrading::a_table_of_the_next_release_is_read_and_one_after_that_is_not,
    renewing::leases_that_are_renewed_together_stay_with_their_owner,
    renewing::a_position_that_is_set_by_hand_is_noticed_among_many,
    renewing::a_lease_that_somebody_holds_up_holds_up_no_other,
    watching::what_others_commit_wakes_an_idle_reader,
    watching::what_others_commit_wakes_an_idle_worker,
    watching::a_row_that_commits_late_is_delivered_after_its_commit,
    watching::a_message_that_others_have_made_due_is_delivered,
    watching::who_is_not_watched_for_polls,
    watching::a_table_that_is_gone_does_not_keep_the_others_from_being_watched,
    clocks::a_lease_that_has_longer_to_go_than_it_is_long_is_over,
    clocks::the_length_of_a_lease_is_that_of_its_owner,
    clocks::a_queued_row_without_a_delay_depends_on_no_clock,
    clocks::what_was_given_back_without_a_delay_depends_on_no_clock,
    clocks::a_claim_that_has_longer_to_go_than_it_is_long_is_over,
    clocks::rows_that_wait_for_a_time_are_not_kept_waiting_by_those_that_do_not,
}

fn publisher<S: Server>(pool: &Pool<S::Database>) -> SqlPublisher<S::Database> {
    SqlPublisher::new(pool.clone(), SqlPublisherConfig::default()).unwrap()
}

fn reader<S: Server>(pool: &Pool<S::Database>, config: SqlSubscriberConfig) -> SqlSubscriber<S::Database> {
    SqlSubscriber::new(pool.clone(), config).unwrap()
}

/// JSON numbers, which are their ids too.
fn numbered(range: std::ops::Range<usize>) -> Vec<Message> {
    range.map(|n| Message::with_id(n.to_string(), n.to_string())).collect()
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(watermill_testkit::patience(), future)
        .await
        .unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

async fn event(subscription: &mut Subscription) -> Result<Delivery, SubscribeError> {
    within("an event", subscription.next()).await.expect("the stream goes on")
}

async fn next(subscription: &mut Subscription) -> Delivery {
    event(subscription).await.unwrap()
}

fn payload(delivery: &Delivery) -> &str {
    std::str::from_utf8(delivery.payload()).unwrap()
}

/// Acks as many messages, which were recorded then, and returns their payloads.
async fn read(subscription: &mut Subscription, count: usize) -> Vec<String> {
    let mut payloads = Vec::new();
    for _ in 0..count {
        let delivery = next(subscription).await;
        payloads.push(payload(&delivery).to_owned());
        delivery.ack_confirmed().await.unwrap();
    }
    payloads
}
