//! [`Database`]: winners, and what the prize service knows.
//!
//! The lottery owns the table `winners`; the prize service owns `announcements` and `prizes`.

mod kind;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
mod sqlite;

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use watermill_core::{Publisher, Subscriber, error::BoxError};
use watermill_sql::SqlSubscriberConfig;

use crate::options::DatabaseUrl;

/// The database of a run, whichever kind it is.
#[async_trait]
pub(crate) trait Database: Send + Sync {
    /// The id of the first lottery that nobody knows of: a database may be used for several runs.
    async fn first_lottery(&self) -> sqlx::Result<i64>;

    /// Stores a winner.
    async fn store(&self, lottery: i64, winner: &str) -> sqlx::Result<()>;

    /// Begins a transaction, which is rolled back when it is dropped.
    async fn begin(&self) -> sqlx::Result<Box<dyn Transaction>>;

    /// Reads what was published in transactions.
    fn subscriber(&self, config: SqlSubscriberConfig) -> Result<Arc<dyn Subscriber>, BoxError>;

    /// Notes that a lottery was announced. It may have been before.
    async fn note_announcement(&self, lottery: i64) -> sqlx::Result<()>;

    /// Looks up the winner and notes that the prize was sent, again or for the first time. False when
    /// there is no winner.
    async fn send_prize(&self, lottery: i64) -> sqlx::Result<bool>;

    /// How many lotteries from `first` on the prize service has heard of, and has sent prizes for.
    async fn heard_from(&self, first: i64) -> sqlx::Result<(i64, i64)>;

    /// What is stored about lotteries from `first` on.
    async fn stored_from(&self, first: i64) -> sqlx::Result<Stored>;
}

/// A transaction of a database.
#[async_trait]
pub(crate) trait Transaction: Send {
    /// Stores a winner.
    async fn store(&mut self, lottery: i64, winner: &str) -> sqlx::Result<()>;

    /// Publishes as a part of this transaction.
    fn publisher(&mut self) -> Box<dyn Publisher + '_>;

    /// What was stored and published is there from now on.
    async fn commit(self: Box<Self>) -> sqlx::Result<()>;
}

/// The lotteries that each part knows of.
pub(crate) struct Stored {
    pub(crate) winners: BTreeSet<i64>,
    pub(crate) announcements: BTreeSet<i64>,
    pub(crate) prizes: BTreeSet<i64>,
}

/// Opens a database and creates its tables.
pub(crate) async fn open(url: &DatabaseUrl) -> Result<Arc<dyn Database>, BoxError> {
    match url {
        DatabaseUrl::Sqlite(file) => sqlite::open(file.as_deref()).await,
        #[cfg(feature = "postgres")]
        DatabaseUrl::Postgres(options) => postgres::open(options).await,
        #[cfg(feature = "mysql")]
        DatabaseUrl::MySql(options) => mysql::open(options).await,
    }
}
