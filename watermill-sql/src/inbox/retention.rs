//! Forgetting marks that nobody asks for any more.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use tokio::time::{MissedTickBehavior, sleep};
use tokio_util::task::AbortOnDropHandle;
use watermill_core::{
    error::BoxError,
    router::{Plugin, Report, RouterControl},
};

use super::{InboxError, SqlInbox, shared::Shared};
use crate::{
    SqlDatabase,
    connection::{Pooled, within},
    error::{Failure, classify},
};

/// What deletes while a router runs.
#[derive(Debug, Default)]
pub(super) struct Task(Mutex<Option<AbortOnDropHandle<()>>>);

impl<D: SqlDatabase> SqlInbox<D> {
    /// Deletes the marks, of all consumers of this database, that are older than
    /// [`keep_for`](crate::SqlInboxConfig::keep_for), batch by batch, until a batch finds fewer than it may delete. Returns how
    /// many. Any number of processes may do so at the same time.
    ///
    /// # Errors
    ///
    /// [`InboxError`]. What was deleted before stays deleted.
    ///
    /// # Cancel safety
    ///
    /// Every batch is a transaction: when the future is dropped, the batch in progress is deleted as a whole or not at all.
    pub async fn forget_old(&self) -> Result<u64, InboxError> {
        forget_old(&self.shared).await.map_err(InboxError::around)
    }
}

async fn forget_old<D: SqlDatabase>(shared: &Shared<D>) -> Result<u64, Failure> {
    let config = &shared.config;
    if config.joins_ack {
        // There are no marks, and perhaps no table for them.
        return Ok(0);
    }
    let mut forgotten = 0;
    loop {
        let deleted = within(config.timeout, async {
            shared.prepare().await?;
            let mut pooled = Pooled::clean(&shared.pool).await?;
            let deleted = D::expire_marks(pooled.get(), config.keep_for, config.batch_size).await;
            let deleted = deleted.map_err(classify::<D>)?;
            pooled.settled();
            Ok(deleted)
        })
        .await?;
        forgotten += deleted;
        if usize::try_from(deleted).is_ok_and(|deleted| deleted < config.batch_size) {
            return Ok(forgotten);
        }
        // Others may want a connection meanwhile.
        sleep(config.pause).await;
    }
}

/// While the router runs, old marks are looked for when it starts and once in every
/// [`interval`](crate::SqlInboxConfig::interval). What goes wrong is in the log, and is tried again at the next look.
#[async_trait]
impl<D: SqlDatabase> Plugin for SqlInbox<D> {
    async fn on_start(&self, _control: &RouterControl) -> Result<(), BoxError> {
        let shared = self.shared.clone();
        self.task.hold(Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(shared.config.interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                match forget_old(&shared).await {
                    Ok(forgotten) => tracing::debug!(forgotten, "forgot old marks of the inbox"),
                    Err(failure) => tracing::warn!(
                        reason = failure.text(),
                        "old marks of the inbox are not deleted, the next look tries again"
                    ),
                }
            }
        }))));
        Ok(())
    }

    async fn on_stop(&self, _report: &Report) {
        if let Some(task) = self.task.hold(None) {
            task.abort();
            // A batch in progress ends by itself; a pool that is closed next waits for its connection.
            let _ = task.await;
        }
    }
}

impl Task {
    fn hold(&self, task: Option<AbortOnDropHandle<()>>) -> Option<AbortOnDropHandle<()>> {
        std::mem::replace(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner), task)
    }
}
