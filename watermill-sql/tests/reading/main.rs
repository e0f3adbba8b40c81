//! Reading logs, on every database.

#![cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]

#[cfg(feature = "mysql")]
#[path = "../mysql_database/mod.rs"]
mod mysql_database;
#[cfg(feature = "postgres")]
#[path = "../postgres_database/mod.rs"]
mod postgres_database;

mod held_back;
mod server;
mod unreadable;

use std::time::Duration;

use futures::{FutureExt, StreamExt};
use server::Server;
use sqlx::Pool;
use watermill_core::{
    Backoff, Delivery, Message, Publisher, Subscriber, Subscription,
    error::{SubscribeError, SubscribeErrorKind},
};
use watermill_sql::{SqlPublisher, SqlPublisherConfig, SqlSubscriber, SqlSubscriberConfig};

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
    unreadable::a_row_that_cannot_be_read_is_reported_and_held_until_it_is_mended,
    unreadable::a_row_that_cannot_be_read_is_held_until_it_is_deleted,
    held_back::who_is_named_is_no_older_than_who_writes_now_while_rows_flow,
    held_back::the_age_of_who_holds_a_reader_back_is_its_own_and_not_that_of_the_wait,
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
