//! [`Shared`]: what all steps of an inbox share.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use sqlx::Pool;
use tokio::sync::OnceCell;
use watermill_core::Publisher;

use super::SqlInboxConfig;
use crate::{
    SqlDatabase,
    connection::{Checked, Pooled, Spares},
    error::Failure,
    publisher::Packet,
    schema::{self, Found},
};

/// Puts a publisher around the one that writes into the transaction.
pub(crate) type Wrap = dyn for<'p> Fn(&'p dyn Publisher) -> Box<dyn Publisher + 'p> + Send + Sync;

pub(crate) struct Shared<D: SqlDatabase> {
    pub(crate) pool: Pool<D>,
    pub(crate) config: SqlInboxConfig,
    pub(crate) wrap: Option<Arc<Wrap>>,
    pub(super) known: Arc<Known<D>>,
}

/// What is learnt while steps run.
pub(super) struct Known<D: SqlDatabase> {
    pub(super) spares: Spares<D>,
    pub(super) packet: Packet,
    /// The order of writers, where there is one at a time.
    pub(super) writing: Arc<tokio::sync::Mutex<()>>,
    checked: Checked,
    /// Whether the table of marks is there.
    prepared: OnceCell<()>,
    topics: Mutex<HashMap<String, Found>>,
}

impl<D: SqlDatabase> Shared<D> {
    pub(super) fn new(pool: Pool<D>, config: SqlInboxConfig) -> Self {
        let known = Known {
            spares: Spares::new(pool.clone()),
            packet: Packet::default(),
            writing: Arc::default(),
            checked: Checked::default(),
            prepared: OnceCell::new(),
            topics: Mutex::default(),
        };
        Self { pool, config, wrap: None, known: Arc::new(known) }
    }

    /// Sees to the table of marks, once.
    pub(super) async fn prepare(&self) -> Result<(), Failure> {
        if self.known.prepared.initialized() {
            return Ok(());
        }
        let prepare = async || {
            self.known.checked.pool(&self.pool).await?;
            let mut pooled = Pooled::clean(&self.pool).await?;
            D::check_server(pooled.get()).await?;
            if !self.config.joins_ack {
                schema::ensure_inbox::<D>(pooled.get(), self.config.initialize_schema).await?;
            }
            pooled.settled();
            Ok(())
        };
        self.known.prepared.get_or_try_init(prepare).await.copied()
    }

    pub(super) fn found(&self, topic: &str) -> Option<Found> {
        self.topics().get(topic).copied()
    }

    /// Remembers what transactions that were committed have found.
    pub(super) fn remember(&self, found: impl IntoIterator<Item = (String, Found)>) {
        self.topics().extend(found);
    }

    /// A topic's table is not what it was taken for.
    pub(super) fn forget(&self, topic: &str) {
        self.topics().remove(topic);
    }

    fn topics(&self) -> std::sync::MutexGuard<'_, HashMap<String, Found>> {
        self.known.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: SqlDatabase> Clone for Shared<D> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            config: self.config.clone(),
            wrap: self.wrap.clone(),
            known: self.known.clone(),
        }
    }
}

impl<D: SqlDatabase> fmt::Debug for Shared<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("database", &D::NAME)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
