//! [`SqlFencedPublisher`]: batches with checkpoints, fenced by the database.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use sqlx::Pool;
use uuid::Uuid;
use watermill_core::{
    error::{ConfigError, PublishError, PublishErrorKind},
    fenced::{FencedPublisher, Term},
};

use super::term::SqlTerm;
use crate::{
    SqlDatabase, SqlPublisherConfig,
    connection::{Checked, Pooled, within},
    error::{Failure, classify},
    schema,
};

/// The longest name, in bytes: what every database can index.
const NAME_BYTES_MAX: usize = 255;

/// Publishes batches into tables, each with a checkpoint in one transaction of the database.
///
/// Checkpoints are in the table `_watermill_checkpoints`, a row for each name, made when it is missing. Beginning a
/// term takes that row over, with a token that no other term has. Each commit begins with a comparison of the token,
/// which locks the row until its end: a successor waits for a commit that is on its way, and what its predecessor
/// wants to commit afterwards is refused. So a relay that was paused and wakes up publishes nothing.
///
/// It publishes as a [`SqlPublisher`](crate::SqlPublisher) with the same configuration does, into both layouts. On
/// PostgreSQL and SQLite a commit makes the tables of topics that it has not seen; on MySQL, where making a table ends
/// the transaction, they are made before it.
///
/// The pool lends a connection for as long as a commit takes; one is enough, unless others use it.
pub struct SqlFencedPublisher<D: SqlDatabase> {
    pool: Pool<D>,
    config: SqlPublisherConfig,
    checked: Arc<Checked>,
}

impl<D: SqlDatabase> SqlFencedPublisher<D> {
    /// A publisher over `pool`. Nothing is sent before a term begins.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] as [`SqlPublisherConfig::validate`].
    pub fn new(pool: Pool<D>, config: SqlPublisherConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self { pool, config, checked: Arc::default() })
    }
}

#[async_trait]
impl<D: SqlDatabase> FencedPublisher for SqlFencedPublisher<D> {
    async fn begin(&self, name: &str) -> Result<Box<dyn Term>, PublishError> {
        check_name(name).map_err(|why| PublishError::new(PublishErrorKind::Refused, name).because(why))?;
        let owner = Uuid::now_v7().to_string();
        let begun = within(self.config.timeout, async {
            self.checked.pool(&self.pool).await?;
            take::<D>(&self.pool, name, &owner, &self.config).await
        });
        let begun = begun.await;
        let checkpoint = begun.map_err(|failure| failure.publishing(name))?;
        Ok(Box::new(SqlTerm::new(self.pool.clone(), self.config.clone(), name, owner, checkpoint)))
    }

    fn backend(&self) -> &'static str {
        "sql"
    }
}

impl<D: SqlDatabase> Clone for SqlFencedPublisher<D> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), config: self.config.clone(), checked: self.checked.clone() }
    }
}

impl<D: SqlDatabase> fmt::Debug for SqlFencedPublisher<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlFencedPublisher")
            .field("database", &D::NAME)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Dropped or timed out, its connection is closed: whatever it waited for, the server waits no longer.
async fn take<D: SqlDatabase>(
    pool: &Pool<D>,
    name: &str,
    owner: &str,
    config: &SqlPublisherConfig,
) -> Result<Option<Vec<u8>>, Failure> {
    let mut pooled = Pooled::clean(pool).await?;
    D::check_server(pooled.get()).await?;
    schema::ensure_checkpoints::<D>(pooled.get(), config.initialize_schema).await?;
    let checkpoint = D::take_term(pooled.get(), name, owner).await.map_err(classify::<D>)?;
    pooled.settled();
    Ok(checkpoint)
}

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("the name of the publisher is empty".to_owned());
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(format!(
            "the name of the publisher has {} bytes, of at most {NAME_BYTES_MAX}",
            name.len()
        ));
    }
    match name.contains('\0') {
        true => Err("the name of the publisher has a zero byte".to_owned()),
        false => Ok(()),
    }
}
