//! [`SqlRetention`]: deletes what is old and read.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use sqlx::Pool;
use tokio_util::task::AbortOnDropHandle;
use watermill_core::error::ConfigError;

use super::{RetentionError, SqlRetentionConfig, dialect::Expiry};
use crate::{
    Layout, SqlDatabase,
    connection::{Checked, Pooled, within},
    error::{Failure, Trouble, classify},
    position::Position,
    schema,
    topic::Tables,
};

/// Deletes rows that nobody needs any more, over a pool of connections: of logs what every consumer group
/// has read, Go's included, and of queues what is marked as acked, if it is older than
/// [`keep_for`](SqlRetentionConfig::keep_for).
///
/// [`run_once`](Self::run_once) does it once. As a [`Plugin`](watermill_core::router::Plugin) of a router it
/// does it again and again, for the configured topics:
///
/// ```no_run
/// # async fn run(pool: sqlx::Pool<impl watermill_sql::SqlDatabase>) -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use watermill_core::Router;
/// use watermill_sql::{SqlRetention, SqlRetentionConfig};
///
/// let config = SqlRetentionConfig::default()
///     .topics(["orders", "payments"])
///     .keep_for(Duration::from_secs(24 * 3600));
/// Router::new().plugin(SqlRetention::new(pool, config)?).run().await?;
/// # Ok(())
/// # }
/// ```
///
/// The account needs the rights to select, update and delete. Any number of processes may do it at the same
/// time; what one has locked the others leave to it.
pub struct SqlRetention<D: SqlDatabase> {
    pub(super) pool: Pool<D>,
    pub(super) config: SqlRetentionConfig,
    pub(super) checked: Arc<Checked>,
    /// The plugin's, while a router runs.
    pub(super) task: Mutex<Option<AbortOnDropHandle<()>>>,
}

/// What a run has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetentionReport {
    /// How many rows were deleted.
    pub deleted: u64,
    /// A group for which rows were kept that are old: one that is behind, or that nobody reads for any more.
    /// In the latter case delete its row from the topic's table of offsets.
    pub kept_for: Option<String>,
}

impl<D: SqlDatabase> SqlRetention<D> {
    /// A retention over `pool`. Nothing is sent before the first run.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] as [`SqlRetentionConfig::validate`].
    pub fn new(pool: Pool<D>, config: SqlRetentionConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self { pool, config, checked: Arc::default(), task: Mutex::default() })
    }

    /// Deletes what is old and read of one topic, batch by batch, until a batch finds nothing. A topic
    /// without a table has nothing to delete, and none is created.
    ///
    /// # Errors
    ///
    /// [`RetentionError`], which says what to do. What was deleted before stays deleted.
    ///
    /// # Cancel safety
    ///
    /// Every batch is a transaction: when the future is dropped, the batch in progress is deleted as a whole
    /// or not at all.
    pub async fn run_once(&self, topic: &str) -> Result<RetentionReport, RetentionError> {
        self.run(topic).await.map_err(|failure| RetentionError::new(failure, topic))
    }

    async fn run(&self, topic: &str) -> Result<RetentionReport, Failure> {
        let tables = Tables::named::<D>(topic, self.config.schema_qualified);
        let tables = tables.map_err(|why| Failure::because(Trouble::Topic, why))?;
        let mut report = RetentionReport::default();
        let looked = within(self.config.timeout, async {
            self.checked.pool(&self.pool).await?;
            let mut pooled = Pooled::clean(&self.pool).await?;
            let layout = schema::layout_of::<D>(pooled.get(), &tables).await?;
            let has_offsets =
                layout == Some(Layout::Log) && schema::has_offsets::<D>(pooled.get(), &tables).await?;
            pooled.settled();
            Ok(layout.map(|layout| (layout, has_offsets)))
        });
        let Some((layout, has_offsets)) = looked.await? else { return Ok(report) };
        let expiry = Expiry {
            tables,
            keep_ms: i64::try_from(self.config.keep_for.as_millis()).unwrap_or(i64::MAX),
            limit: self.config.batch_size,
            has_offsets,
            without_groups: self.config.without_groups,
            silence: self.config.timeout,
        };
        let mut after = Position::default();
        loop {
            let expired = within(self.config.timeout, async {
                let mut pooled = Pooled::clean(&self.pool).await?;
                let expired = match layout {
                    Layout::Log => D::expire_read(pooled.get(), &expiry, after).await,
                    Layout::Queue => D::expire_acked(pooled.get(), &expiry, after).await,
                };
                let expired = expired.map_err(classify::<D>)?;
                pooled.settled();
                Ok(expired)
            })
            .await?;
            report.deleted += expired.deleted;
            report.kept_for = expired.kept_for;
            // Behind rows that nobody may delete yet there are none that one may, or they can wait.
            if expired.deleted == 0 || expired.looked_at < expiry.limit {
                return Ok(report);
            }
            after = expired.last;
            // Others may want a connection meanwhile.
            tokio::time::sleep(self.config.pause).await;
        }
    }
}

impl<D: SqlDatabase> fmt::Debug for SqlRetention<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlRetention")
            .field("database", &D::NAME)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
