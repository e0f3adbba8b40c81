//! [`SqlPool`]: a pool of whichever database a URL names.

use std::{fmt, sync::Arc, time::Duration};

use sqlx::{AssertSqlSafe, Connection as _, SqlStr, pool::PoolOptions};
use watermill_core::{
    Message, Publisher, Subscriber,
    backend::Failure,
    error::{ConfigError, PublishError, SubscribeError},
    fenced::FencedPublisher,
};

use super::{Kind, SqlUrl, WHAT};
use crate::{
    HeldBack, LogStatus, PeekedMessage, QueueStatus, ShardCount, SqlDatabase, SqlFencedPublisher,
    SqlPublisher, SqlPublisherConfig, SqlQueueSubscriber, SqlQueueSubscriberConfig, SqlShardCounts,
    SqlStatus, SqlSubscriber, SqlSubscriberConfig,
    connection::{PREPARE_MAX, Pooled, begin, within},
    error::{Trouble, classify},
    topic::Tables,
};

/// A pool of connections to whichever database a [`SqlUrl`] names, and what this crate makes of it. Clones share it.
#[derive(Clone)]
#[non_exhaustive]
pub enum SqlPool {
    /// PostgreSQL.
    #[cfg(feature = "postgres")]
    Postgres(sqlx::PgPool),
    /// MySQL and MariaDB.
    #[cfg(feature = "mysql")]
    MySql(sqlx::MySqlPool),
    /// SQLite.
    #[cfg(feature = "sqlite")]
    Sqlite(sqlx::SqlitePool),
}

/// Which readers wait for the transactions of others, as [`SqlSubscriber::held_back`] says.
pub type HeldBackGauge = Arc<dyn Fn() -> Vec<HeldBack> + Send + Sync>;

/// The same expression for every database; each is a type of its own.
macro_rules! on {
    ($self:expr, $pool:ident => $what:expr) => {
        match $self {
            #[cfg(feature = "postgres")]
            SqlPool::Postgres($pool) => $what,
            #[cfg(feature = "mysql")]
            SqlPool::MySql($pool) => $what,
            #[cfg(feature = "sqlite")]
            SqlPool::Sqlite($pool) => $what,
        }
    };
}

pub(super) use on;

impl SqlUrl {
    /// Makes the pool. It connects when a connection is asked for.
    ///
    /// To be called on the runtime that it is used on.
    pub fn connect(&self) -> SqlPool {
        match self.kind {
            #[cfg(feature = "postgres")]
            Kind::Postgres => {
                let options = self.postgres().expect("it was read when the URL was");
                SqlPool::Postgres(self.options().connect_lazy_with(options))
            }
            #[cfg(feature = "mysql")]
            Kind::MySql => {
                let options = self.mysql().expect("it was read when the URL was");
                SqlPool::MySql(self.options().connect_lazy_with(options))
            }
            #[cfg(feature = "sqlite")]
            Kind::Sqlite => {
                let options = self.sqlite().expect("it was read when the URL was");
                SqlPool::Sqlite(self.options().connect_lazy_with(options))
            }
            #[cfg(not(all(feature = "postgres", feature = "mysql", feature = "sqlite")))]
            _ => unreachable!("a URL of a database that is not built in is refused"),
        }
    }

    /// Reads what is behind the scheme.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let read = match self.kind {
            #[cfg(feature = "postgres")]
            Kind::Postgres => self.postgres().map(drop),
            #[cfg(feature = "mysql")]
            Kind::MySql => self.mysql().map(drop),
            #[cfg(feature = "sqlite")]
            Kind::Sqlite => self.sqlite().map(drop),
            #[cfg(not(all(feature = "postgres", feature = "mysql", feature = "sqlite")))]
            _ => Ok(()),
        };
        read.map_err(|error| ConfigError::new(WHAT, format!("url: {error}")))
    }

    fn options<D: sqlx::Database>(&self) -> PoolOptions<D> {
        PoolOptions::new().max_connections(self.connections).acquire_timeout(self.acquire_timeout)
    }

    #[cfg(feature = "postgres")]
    fn postgres(&self) -> sqlx::Result<sqlx::postgres::PgConnectOptions> {
        let options: sqlx::postgres::PgConnectOptions = self.url.parse()?;
        let options = options.application_name(&self.application);
        Ok(match &self.password {
            Some(password) => options.password(password),
            None => options,
        })
    }

    #[cfg(feature = "mysql")]
    fn mysql(&self) -> sqlx::Result<sqlx::mysql::MySqlConnectOptions> {
        let options: sqlx::mysql::MySqlConnectOptions = self.url.parse()?;
        Ok(match &self.password {
            Some(password) => options.password(password),
            None => options,
        })
    }

    #[cfg(feature = "sqlite")]
    fn sqlite(&self) -> sqlx::Result<sqlx::sqlite::SqliteConnectOptions> {
        let options: sqlx::sqlite::SqliteConnectOptions = self.url.parse()?;
        Ok(match self.url.contains("mode=") {
            true => options,
            false => options.create_if_missing(true).journal_mode(sqlx::sqlite::SqliteJournalMode::Wal),
        })
    }
}

impl SqlPool {
    /// A subscriber to logs.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] as [`SqlSubscriberConfig::validate`].
    pub fn subscriber(&self, config: SqlSubscriberConfig) -> Result<Arc<dyn Subscriber>, ConfigError> {
        Ok(self.subscriber_and_gauge(config)?.0)
    }

    /// A subscriber to logs, and what tells who holds its subscriptions back.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] as [`SqlSubscriberConfig::validate`].
    pub fn subscriber_and_gauge(
        &self,
        config: SqlSubscriberConfig,
    ) -> Result<(Arc<dyn Subscriber>, HeldBackGauge), ConfigError> {
        on!(self, pool => {
            let subscriber = Arc::new(SqlSubscriber::new(pool.clone(), config)?);
            let gauge = Arc::clone(&subscriber);
            Ok((subscriber, Arc::new(move || gauge.held_back())))
        })
    }

    /// A subscriber to queues.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] as [`SqlQueueSubscriberConfig::validate`].
    pub fn queue_subscriber(
        &self,
        config: SqlQueueSubscriberConfig,
    ) -> Result<Arc<dyn Subscriber>, ConfigError> {
        on!(self, pool => Ok(Arc::new(SqlQueueSubscriber::new(pool.clone(), config)?)))
    }

    /// A publisher.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] as [`SqlPublisherConfig::validate`].
    pub fn publisher(&self, config: SqlPublisherConfig) -> Result<Arc<dyn Publisher>, ConfigError> {
        on!(self, pool => Ok(Arc::new(SqlPublisher::new(pool.clone(), config)?)))
    }

    /// As [`SqlStatus::log`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn log_status(&self, topic: &str) -> Result<LogStatus, SubscribeError> {
        on!(self, pool => SqlStatus::new(pool.clone()).log(topic).await)
    }

    /// As [`SqlShardCounts::get`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn shard_count(&self, topic: &str, group: &str) -> Result<Option<ShardCount>, SubscribeError> {
        on!(self, pool => SqlShardCounts::new(pool.clone()).get(topic, group).await)
    }

    /// As [`SqlShardCounts::set`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn set_shard_count(&self, topic: &str, group: &str, count: u32) -> Result<(), SubscribeError> {
        on!(self, pool => SqlShardCounts::new(pool.clone()).set(topic, group, count).await)
    }

    /// As [`SqlStatus::queue`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn queue_status(
        &self,
        topic: &str,
        dead_letter_topic: Option<&str>,
    ) -> Result<QueueStatus, SubscribeError> {
        on!(self, pool => SqlStatus::new(pool.clone()).queue(topic, dead_letter_topic).await)
    }

    /// As [`SqlStatus::peek`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn peek(
        &self,
        topic: &str,
        after: i64,
        limit: usize,
    ) -> Result<Vec<PeekedMessage>, SubscribeError> {
        on!(self, pool => SqlStatus::new(pool.clone()).peek(topic, after, limit).await)
    }

    /// The offset of the newest row of a topic.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`]: of the kind `Topic` where there is no such topic.
    pub async fn newest(&self, topic: &str) -> Result<Option<i64>, SubscribeError> {
        on!(self, pool => SqlStatus::new(pool.clone()).newest(topic).await)
    }

    /// A publisher of batches with checkpoints, for exactly-once effect in the database.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] as [`SqlPublisherConfig::validate`].
    pub fn fenced_publisher(
        &self,
        config: SqlPublisherConfig,
    ) -> Result<Arc<dyn FencedPublisher>, ConfigError> {
        on!(self, pool => Ok(Arc::new(SqlFencedPublisher::new(pool.clone(), config)?)))
    }

    /// Deletes rows of a topic by their offsets and publishes to another topic what is given for them, in one
    /// transaction. A row that is not there any more is left out, with its message; says how many there were.
    ///
    /// # Errors
    ///
    /// [`PublishError`]; then nothing has happened, or it is not known whether the commit has.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it is rolled back, or the commit may have happened. The configuration's
    /// [`timeout`](SqlPublisherConfig::timeout) bounds it.
    pub async fn take(
        &self,
        topic: &str,
        rows: Vec<(i64, Option<Message>)>,
        (to, config): (&str, SqlPublisherConfig),
    ) -> Result<u64, PublishError> {
        let timeout = config.timeout;
        let taken = on!(self, pool => within(timeout, async {
            let messages = messages_table(pool, topic)?;
            // Closed unless all goes well, so that no transaction stays behind in it.
            let mut pooled = Pooled::clean(pool).await?;
            let mut tx = begin_writing(pool, pooled.get(), timeout).await?;
            let (mut taken, mut published) = (0, Vec::new());
            for (offset, message) in rows {
                let delete = format!("delete from {messages} where {} = {offset}", offset_column(pool));
                let deleted = sqlx::query(AssertSqlSafe(delete)).execute(&mut *tx).await;
                let deleted = deleted.map_err(|error| classify_of(pool, error))?.rows_affected();
                taken += deleted;
                published.extend(message.filter(|_| deleted > 0));
            }
            if !published.is_empty() {
                let publisher = SqlPublisher::in_transaction(&mut tx).config(config);
                if let Err(error) = publisher.publish(to, published).await {
                    return Ok(Err(error));
                }
            }
            tx.commit().await.map_err(|error| classify_of(pool, error))?;
            end(pool, pooled.get()).await?;
            pooled.settled();
            Ok(Ok(taken))
        }).await);
        taken.map_err(|failure| failure.publishing(topic))?
    }

    /// Reaches the database, with a connection beside the pool: of a database that is away a pool says that it has
    /// waited in vain, and a connection says why. It takes 10 s at most.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`] where that does not work.
    pub async fn ping(&self) -> Result<(), SubscribeError> {
        let reached = on!(self, pool => {
            within(PREPARE_MAX, async { reach(pool).await.map_err(|error| classify_of(pool, error)) }).await
        });
        reached.map_err(|failure| failure.subscribing(""))
    }

    /// Waits until the pool's connections are closed.
    pub async fn close(&self) {
        on!(self, pool => pool.close().await);
    }
}

/// So that two that write the same rows wait for one another, and neither for a lock that it cannot get.
async fn begin_writing<'c, D: SqlDatabase>(
    _pool: &sqlx::Pool<D>,
    connection: &'c mut D::Connection,
    silence: Duration,
) -> Result<sqlx::Transaction<'c, D>, Failure> {
    let begun = match D::ONE_WRITER {
        true => connection.begin_with(SqlStr::from_static("BEGIN IMMEDIATE")).await,
        false => begin::<D>(connection, silence).await,
    };
    begun.map_err(classify::<D>)
}

async fn end<D: SqlDatabase>(_pool: &sqlx::Pool<D>, connection: &mut D::Connection) -> Result<(), Failure> {
    D::end(connection).await.map_err(classify::<D>)
}

async fn reach<D: SqlDatabase>(pool: &sqlx::Pool<D>) -> sqlx::Result<()> {
    let mut connection = D::Connection::connect_with(&pool.connect_options()).await?;
    connection.ping().await?;
    connection.close().await
}

fn messages_table<D: SqlDatabase>(_pool: &sqlx::Pool<D>, topic: &str) -> Result<String, Failure> {
    let tables = Tables::new::<D>(topic).map_err(|why| Failure::because(Trouble::Topic, why))?;
    Ok(tables.messages())
}

fn offset_column<D: SqlDatabase>(_pool: &sqlx::Pool<D>) -> String {
    format!("{quote}offset{quote}", quote = D::QUOTE)
}

fn classify_of<D: SqlDatabase>(_pool: &sqlx::Pool<D>, error: sqlx::Error) -> Failure {
    classify::<D>(error)
}

impl fmt::Debug for SqlPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SqlPool").field(&on!(self, pool => name_of(pool))).finish()
    }
}

fn name_of<D: SqlDatabase>(_pool: &sqlx::Pool<D>) -> &'static str {
    D::NAME
}
