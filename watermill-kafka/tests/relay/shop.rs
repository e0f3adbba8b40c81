//! [`Shop`]: an outbox in SQLite, and the topic that its events go to.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    Sqlite, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};
use tempfile::TempDir;
use watermill_core::{Message, Publisher as _, Subscriber as _};
use watermill_forwarder::{DEFAULT_TOPIC, ForwarderPublisher};
use watermill_sql::{SqlPublisher, SqlPublisherConfig, SqlSubscriber, SqlSubscriberConfig};
use watermill_testkit::unique;

use crate::{Result, processes::Records};

/// Messages of one call.
const CALL: usize = 500;

pub(crate) struct Shop {
    folder: TempDir,
    pool: SqlitePool,
    /// Where its events go.
    pub(crate) records: Records,
}

/// Longer than anybody who is awake keeps the database locked.
const BUSY: Duration = Duration::from_secs(30);

pub(crate) async fn connect(database: &Path) -> Result<SqlitePool> {
    connect_waiting(database, BUSY).await
}

async fn connect_waiting(database: &Path, busy: Duration) -> Result<SqlitePool> {
    let options = SqliteConnectOptions::new()
        .filename(database)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(busy);
    Ok(SqlitePool::connect_with(options).await?)
}

pub(crate) fn outbox(pool: SqlitePool) -> Result<SqlSubscriber<Sqlite>> {
    let config = SqlSubscriberConfig::default().group("relay").lease(Duration::from_secs(1));
    Ok(SqlSubscriber::new(pool, config)?)
}

impl Shop {
    pub(crate) async fn open() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let pool = connect(&folder.path().join("shop.db")).await?;
        outbox(pool.clone())?.initialize(DEFAULT_TOPIC).await?;
        let records = Records::of(unique("orders")).await?;
        Ok(Self { folder, pool, records })
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.folder.path().join("shop.db")
    }

    /// Puts numbered messages into the outbox, over so many keys.
    pub(crate) async fn publish(&self, numbers: Range<usize>, keys: usize) -> Result {
        let publisher = SqlPublisher::new(self.pool.clone(), SqlPublisherConfig::default())?;
        let outbox = ForwarderPublisher::new(publisher);
        let message = |number: usize| Message::new(number.to_string()).with_key((number % keys).to_string());
        for start in numbers.clone().step_by(CALL) {
            let messages = (start..numbers.end.min(start + CALL)).map(message).collect();
            outbox.publish(&self.records.topic, messages).await?;
        }
        Ok(())
    }

    /// Whether nobody has the database locked, or gives it back soon.
    pub(crate) async fn is_writable(&self) -> Result<bool> {
        let pool = connect_waiting(&self.database(), Duration::from_millis(200)).await?;
        let locked = sqlx::query("begin immediate").execute(&pool).await;
        // What it has begun ends with its connection.
        pool.close().await;
        Ok(locked.is_ok())
    }
}
