//! A consumer group that a Go reader and ours read in turns, on tables that either made: each goes on exactly
//! where the other has stopped. The Go reader is its statements, run by us.

#![cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]

#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "mysql")]
#[path = "../mysql_database/mod.rs"]
mod mysql_database;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "postgres")]
#[path = "../postgres_database/mod.rs"]
mod postgres_database;
#[cfg(feature = "sqlite")]
mod sqlite;

use async_trait::async_trait;
use futures::StreamExt;
use sqlx::Pool;
use watermill_core::{Message, PublisherExt, Subscriber};
use watermill_sql::{SqlDatabase, SqlPublisher, SqlPublisherConfig, SqlSubscriber, SqlSubscriberConfig};

/// What Go's library does on a database, for the topic `t`.
#[async_trait]
trait Go: Default + Send + Sync {
    type Database: SqlDatabase;

    async fn pool(&self) -> Pool<Self::Database>;

    /// Creates the tables, as Go's documentation has them.
    async fn create_tables(pool: &Pool<Self::Database>);

    async fn publish(pool: &Pool<Self::Database>, id: &str);

    /// Reads the next message of a group and acks it, if there is one.
    async fn read(pool: &Pool<Self::Database>, group: &str) -> Option<String>;

    /// How ours reads what is shared with Go.
    fn reading() -> SqlSubscriberConfig {
        SqlSubscriberConfig::default()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Go,
    Ours,
}

const MESSAGES: usize = 12;

/// Eight turns: whoever begins reads one message at a time, and the other two.
async fn take_turns<G: Go>(made_by: Side) {
    let go = G::default();
    let pool = go.pool().await;
    if made_by == Side::Go {
        G::create_tables(&pool).await;
    }
    subscriber::<G>(&pool, "begun by go").initialize("t").await.unwrap();
    let publisher = SqlPublisher::new(pool.clone(), SqlPublisherConfig::default()).unwrap();
    for n in 0..MESSAGES {
        match n % 2 {
            0 => G::publish(&pool, &n.to_string()).await,
            _ => publisher.publish_one("t", Message::with_id(n.to_string(), "{}")).await.unwrap(),
        }
    }
    for (group, order) in [("begun by go", [Side::Go, Side::Ours]), ("begun by ours", [Side::Ours, Side::Go])]
    {
        let mut read = Vec::new();
        for (turn, side) in order.into_iter().cycle().take(8).enumerate() {
            let count = turn % 2 + 1;
            match side {
                Side::Go => read.extend(go_reads::<G>(&pool, group, count).await),
                Side::Ours => read.extend(ours_reads::<G>(&pool, group, count).await),
            }
        }
        let expected: Vec<String> = (0..MESSAGES).map(|n| n.to_string()).collect();
        assert_eq!(read, expected, "the group that was {group}");
        assert_eq!(G::read(&pool, group).await, None);
    }
}

async fn go_reads<G: Go>(pool: &Pool<G::Database>, group: &str, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    within("a message for Go", async {
        while ids.len() < count {
            match G::read(pool, group).await {
                Some(id) => ids.push(id),
                // Transactions of other tests hold it back.
                None => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            }
        }
    })
    .await;
    ids
}

async fn ours_reads<G: Go>(pool: &Pool<G::Database>, group: &str, count: usize) -> Vec<String> {
    let mut subscription = subscriber::<G>(pool, group).subscribe("t").await.unwrap();
    let mut ids = Vec::new();
    while ids.len() < count {
        let delivery = within("a delivery", subscription.next()).await.expect("the stream goes on").unwrap();
        ids.push(delivery.id().to_string());
        delivery.ack();
    }
    subscription.close().await.unwrap();
    ids
}

fn subscriber<G: Go>(pool: &Pool<G::Database>, group: &str) -> SqlSubscriber<G::Database> {
    SqlSubscriber::new(pool.clone(), G::reading().group(group)).unwrap()
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(watermill_testkit::patience(), future)
        .await
        .unwrap_or_else(|_| panic!("waited in vain: {what}"))
}
