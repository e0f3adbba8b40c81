//! [`Sql`]: a [`Database`] of any [`Kind`]. What differs between them is their statements.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use sqlx::Pool;
use tempfile::TempDir;
use watermill_core::{Publisher, Subscriber, error::BoxError};
use watermill_sql::{SqlDatabase, SqlPublisher, SqlSubscriber, SqlSubscriberConfig};

use super::{Database, Stored, Transaction};

/// A kind of database.
#[async_trait]
pub(super) trait Kind: SqlDatabase {
    /// Takes a lottery and its winner.
    const STORE: &str;
    /// Takes a lottery.
    const NOTE_ANNOUNCEMENT: &str;
    /// Takes a lottery.
    const SEND_PRIZE: &str;
    /// What follows `select ... from` a table to take the lotteries from a first one on.
    const FROM_FIRST: &str;

    /// Executes one of the statements above, and says how many rows it has touched.
    async fn execute(
        connection: &mut Self::Connection,
        statement: &'static str,
        lottery: i64,
        winner: Option<&str>,
    ) -> sqlx::Result<u64>;

    /// Reads numbers from a first lottery on.
    async fn numbers(connection: &mut Self::Connection, query: String, first: i64) -> sqlx::Result<Vec<i64>>;

    /// Reads the highest lottery there is.
    async fn highest(connection: &mut Self::Connection, query: &'static str) -> sqlx::Result<i64>;
}

/// A pool of connections, and the folder of a temporary database.
pub(super) struct Sql<D: Kind> {
    pub(super) pool: Pool<D>,
    pub(super) _folder: Option<TempDir>,
}

impl<D: Kind> Sql<D> {
    async fn lotteries(&self, table: &str, first: i64) -> sqlx::Result<BTreeSet<i64>> {
        let query = format!("select lottery from {table} {}", D::FROM_FIRST);
        Ok(D::numbers(&mut *self.pool.acquire().await?, query, first).await?.into_iter().collect())
    }

    async fn count(&self, table: &str, first: i64) -> sqlx::Result<i64> {
        let query = format!("select count(*) from {table} {}", D::FROM_FIRST);
        Ok(D::numbers(&mut *self.pool.acquire().await?, query, first).await?.iter().sum())
    }
}

#[async_trait]
impl<D: Kind> Database for Sql<D> {
    async fn first_lottery(&self) -> sqlx::Result<i64> {
        let known = "select coalesce(max(lottery), 0)
                     from (select lottery from winners union all select lottery from announcements) known";
        Ok(D::highest(&mut *self.pool.acquire().await?, known).await? + 1)
    }

    async fn store(&self, lottery: i64, winner: &str) -> sqlx::Result<()> {
        D::execute(&mut *self.pool.acquire().await?, D::STORE, lottery, Some(winner)).await.map(drop)
    }

    async fn begin(&self) -> sqlx::Result<Box<dyn Transaction>> {
        let transaction: sqlx::Transaction<'static, D> = self.pool.begin().await?;
        Ok(Box::new(transaction))
    }

    fn subscriber(&self, config: SqlSubscriberConfig) -> Result<Arc<dyn Subscriber>, BoxError> {
        Ok(Arc::new(SqlSubscriber::new(self.pool.clone(), config)?))
    }

    async fn note_announcement(&self, lottery: i64) -> sqlx::Result<()> {
        D::execute(&mut *self.pool.acquire().await?, D::NOTE_ANNOUNCEMENT, lottery, None).await.map(drop)
    }

    async fn send_prize(&self, lottery: i64) -> sqlx::Result<bool> {
        Ok(D::execute(&mut *self.pool.acquire().await?, D::SEND_PRIZE, lottery, None).await? > 0)
    }

    async fn heard_from(&self, first: i64) -> sqlx::Result<(i64, i64)> {
        Ok((self.count("announcements", first).await?, self.count("prizes", first).await?))
    }

    async fn stored_from(&self, first: i64) -> sqlx::Result<Stored> {
        Ok(Stored {
            winners: self.lotteries("winners", first).await?,
            announcements: self.lotteries("announcements", first).await?,
            prizes: self.lotteries("prizes", first).await?,
        })
    }
}

#[async_trait]
impl<D: Kind> Transaction for sqlx::Transaction<'static, D> {
    async fn store(&mut self, lottery: i64, winner: &str) -> sqlx::Result<()> {
        D::execute(self, D::STORE, lottery, Some(winner)).await.map(drop)
    }

    fn publisher(&mut self) -> Box<dyn Publisher + '_> {
        Box::new(SqlPublisher::in_transaction(self))
    }

    async fn commit(self: Box<Self>) -> sqlx::Result<()> {
        (*self).commit().await
    }
}
