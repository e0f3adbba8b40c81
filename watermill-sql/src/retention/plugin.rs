//! [`SqlRetention`] as a task of a router.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use tokio::time::MissedTickBehavior;
use tokio_util::task::AbortOnDropHandle;
use watermill_core::{
    error::BoxError,
    router::{Plugin, Report, RouterControl},
};

use super::SqlRetention;
use crate::SqlDatabase;

/// While the router runs, every configured topic is looked at when it starts and once in every
/// [`interval`](crate::SqlRetentionConfig::interval). What goes wrong is in the log, and is tried again at
/// the next look. A group for which old rows are kept is named in the log once.
#[async_trait]
impl<D: SqlDatabase> Plugin for SqlRetention<D> {
    async fn on_start(&self, _control: &RouterControl) -> Result<(), BoxError> {
        if self.config.topics.is_empty() {
            return Err("the retention has no topics: name them with SqlRetentionConfig::topics".into());
        }
        let (pool, config, checked) = (self.pool.clone(), self.config.clone(), self.checked.clone());
        let retention = Self { pool, config, checked, task: Mutex::default() };
        self.hold(Some(AbortOnDropHandle::new(tokio::spawn(async move { retention.keep_running().await }))));
        Ok(())
    }

    async fn on_stop(&self, _report: &Report) {
        if let Some(task) = self.hold(None) {
            task.abort();
            // A batch in progress ends by itself; a pool that is closed next waits for its connection.
            let _ = task.await;
        }
    }
}

impl<D: SqlDatabase> SqlRetention<D> {
    fn hold(&self, task: Option<AbortOnDropHandle<()>>) -> Option<AbortOnDropHandle<()>> {
        let mut held = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut held, task)
    }

    async fn keep_running(&self) {
        let mut ticks = tokio::time::interval(self.config.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut kept_for = HashMap::new();
        loop {
            ticks.tick().await;
            for topic in &self.config.topics {
                match self.run_once(topic).await {
                    Ok(report) => {
                        tracing::debug!(topic, deleted = report.deleted, "deleted old rows");
                        if let Some(group) = &report.kept_for
                            && kept_for.get(topic) != Some(&report.kept_for)
                        {
                            tracing::warn!(
                                topic,
                                group,
                                "old rows are kept for a group that has not read them"
                            );
                        }
                        kept_for.insert(topic, report.kept_for);
                    }
                    Err(error) => {
                        let source = std::error::Error::source(&error);
                        tracing::warn!(%error, source, "old rows are not deleted, the next look tries again");
                    }
                }
            }
        }
    }
}
