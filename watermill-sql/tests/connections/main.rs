//! Connections in trouble: with a transaction open that nobody knows of, with a server that does not answer, all
//! taken by others. The same on every database, as far as it has the trouble.

#![cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
#![cfg_attr(
    not(all(feature = "postgres", any(feature = "sqlite", feature = "mysql"))),
    expect(dead_code, reason = "some tests are about one database, or all but one")
)]

mod callers;
mod hanging;
mod poisoned;
mod renewing;
mod server;

#[cfg(any(feature = "postgres", feature = "mysql"))]
mod frozen;
#[cfg(feature = "mysql")]
#[expect(dead_code, reason = "its pool has a size of its own")]
#[path = "../mysql_database/mod.rs"]
mod mysql_database;
#[cfg(feature = "postgres")]
#[expect(dead_code, reason = "its pool has a size of its own")]
#[path = "../postgres_database/mod.rs"]
mod postgres_database;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod proxy;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod watching;

use std::{num::NonZeroUsize, time::Duration};

use futures::StreamExt;
use sqlx::Pool;
use watermill_core::{
    Delivery, Message, Publisher, Subscriber, Subscription, Window, delivery::Outcome,
    error::SettleErrorKind, subscription::Health,
};
use watermill_sql::{
    Layout, SqlPublisher, SqlPublisherConfig, SqlQueueSubscriber, SqlQueueSubscriberConfig, SqlSubscriber,
    SqlSubscriberConfig,
};

use crate::server::Server;

macro_rules! tests_on {
    ($database:ident, $feature:literal, $server:path: $($area:ident::$test:ident,)*) => {
        #[cfg(feature = $feature)]
        mod $database { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { crate::$area::$test::<$server>().await; }
        )* }
    };
}

tests_on! { sqlite, "sqlite", crate::server::File:
    poisoned::a_publisher_keeps_no_connection_that_others_wait_for,
    callers::what_is_published_inside_a_begin_of_the_callers_is_the_callers_to_commit,
    callers::a_publisher_that_owns_a_transaction_gives_it_back_to_be_committed,
    callers::what_fails_inside_a_begin_of_the_callers_leaves_the_rest_of_it,
    hanging::a_table_that_is_locked_is_said_and_waited_for,
    renewing::a_reader_keeps_its_messages_while_handlers_have_the_pool,
    renewing::a_worker_keeps_its_messages_while_handlers_have_the_pool,
    renewing::a_nack_that_came_too_late_is_not_confirmed,
    renewing::what_others_have_deleted_is_lost_and_no_dead_letter,
}

tests_on! { postgres, "postgres", crate::postgres_database::Database:
    poisoned::what_is_dropped_in_the_middle_leaves_no_transaction_open_over_a_connection_of_the_pool,
    poisoned::what_is_published_over_a_connection_with_a_forgotten_transaction_is_there,
    poisoned::what_is_acked_over_a_connection_with_a_forgotten_transaction_is_recorded,
    poisoned::a_publisher_keeps_no_connection_that_others_wait_for,
    callers::what_is_published_inside_a_begin_of_the_callers_is_the_callers_to_commit,
    callers::a_publisher_that_owns_a_transaction_gives_it_back_to_be_committed,
    hanging::a_table_that_is_locked_is_said_and_waited_for,
    hanging::a_server_that_falls_silent_is_said_and_left,
    hanging::whatever_is_asked_of_a_server_that_has_fallen_silent_ends,
    frozen::a_worker_that_freezes_at_any_moment_hides_no_message_for_longer_than_its_time,
    frozen::a_reader_that_freezes_at_any_moment_is_succeeded,
    frozen::a_group_that_is_being_made_by_who_freezes_is_made_by_another,
    watching::a_watch_whose_connection_is_half_open_is_said_and_begun_anew,
    renewing::a_reader_keeps_its_messages_while_handlers_have_the_pool,
    renewing::a_worker_keeps_its_messages_while_handlers_have_the_pool,
    renewing::a_reader_keeps_its_lease_while_fetching_fails,
    renewing::a_worker_keeps_its_messages_while_claiming_fails,
    renewing::a_nack_that_came_too_late_is_not_confirmed,
    renewing::what_others_have_deleted_is_lost_and_no_dead_letter,
}

tests_on! { mysql, "mysql", crate::mysql_database::Database:
    poisoned::what_is_dropped_in_the_middle_leaves_no_transaction_open_over_a_connection_of_the_pool,
    poisoned::what_is_published_over_a_connection_with_a_forgotten_transaction_is_there,
    poisoned::what_is_acked_over_a_connection_with_a_forgotten_transaction_is_recorded,
    poisoned::a_publisher_keeps_no_connection_that_others_wait_for,
    callers::what_is_published_inside_a_begin_of_the_callers_is_the_callers_to_commit,
    callers::a_publisher_that_owns_a_transaction_gives_it_back_to_be_committed,
    callers::what_fails_inside_a_begin_of_the_callers_leaves_the_rest_of_it,
    hanging::a_table_that_is_locked_is_said_and_waited_for,
    hanging::a_server_that_falls_silent_is_said_and_left,
    hanging::whatever_is_asked_of_a_server_that_has_fallen_silent_ends,
    frozen::a_worker_that_freezes_at_any_moment_hides_no_message_for_longer_than_its_time,
    frozen::a_reader_that_freezes_at_any_moment_is_succeeded,
    frozen::a_group_that_is_being_made_by_who_freezes_is_made_by_another,
    watching::a_watch_whose_connection_is_half_open_is_said_and_begun_anew,
    renewing::a_reader_keeps_its_messages_while_handlers_have_the_pool,
    renewing::a_worker_keeps_its_messages_while_handlers_have_the_pool,
    renewing::a_nack_that_came_too_late_is_not_confirmed,
    renewing::what_others_have_deleted_is_lost_and_no_dead_letter,
}

/// Either layout, as the tests use it.
fn publisher<S: Server>(pool: &Pool<S::Database>, layout: Layout) -> SqlPublisher<S::Database> {
    SqlPublisher::new(pool.clone(), publishing(layout)).unwrap()
}

fn publishing(layout: Layout) -> SqlPublisherConfig {
    SqlPublisherConfig::default().layout(layout)
}

fn reader<S: Server>(pool: &Pool<S::Database>, config: SqlSubscriberConfig) -> SqlSubscriber<S::Database> {
    SqlSubscriber::new(pool.clone(), config.watch(false)).unwrap()
}

fn worker<S: Server>(
    pool: &Pool<S::Database>,
    config: SqlQueueSubscriberConfig,
) -> SqlQueueSubscriber<S::Database> {
    SqlQueueSubscriber::new(pool.clone(), config.watch(false)).unwrap()
}

/// JSON numbers.
fn numbered(range: std::ops::Range<usize>) -> Vec<Message> {
    range.map(|n| Message::new(n.to_string())).collect()
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(watermill_testkit::patience(), future)
        .await
        .unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// The next delivery, past errors.
async fn next(subscription: &mut Subscription) -> Delivery {
    within("a delivery", async {
        loop {
            if let Ok(delivery) = subscription.next().await.expect("the stream goes on") {
                return delivery;
            }
        }
    })
    .await
}

fn window(size: usize) -> Window {
    Window::unordered(NonZeroUsize::new(size).unwrap())
}

async fn count<S: Server>(pool: &Pool<S::Database>, topic: &str) -> i64 {
    S::number(pool, &format!("select count(*) from watermill_{topic}")).await
}
