//! [`RemoveExpired`]: keeps a store from growing for ever.

use std::{fmt, sync::Arc, time::Duration, time::SystemTime};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

use super::ClaimStore;
use crate::{
    error::{BoxError, chain},
    router::{Plugin, Report, RouterControl},
};

/// Removes what has expired from a [`ClaimStore`], again and again while a router runs: a
/// [`Plugin`]. Any number of processes may do so at once.
pub struct RemoveExpired {
    store: Arc<dyn ClaimStore>,
    interval: Duration,
    task: Mutex<Option<AbortOnDropHandle<()>>>,
}

impl RemoveExpired {
    /// Looks when the router starts and once an hour.
    pub fn of(store: impl ClaimStore + 'static) -> Self {
        Self { store: Arc::new(store), interval: Duration::from_hours(1), task: Mutex::default() }
    }

    /// Sets how often it looks; once a second at the most.
    #[must_use]
    pub fn every(mut self, interval: Duration) -> Self {
        self.interval = interval.max(Duration::from_secs(1));
        self
    }
}

#[async_trait]
impl Plugin for RemoveExpired {
    async fn on_start(&self, _control: &RouterControl) -> Result<(), BoxError> {
        let (store, mut ticks) = (self.store.clone(), interval(self.interval));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let task = tokio::spawn(async move {
            loop {
                ticks.tick().await;
                match store.remove_expired(SystemTime::now()).await {
                    Ok(removed) => tracing::debug!(removed, "removed payloads that have expired"),
                    Err(error) => {
                        let error = chain(&error);
                        tracing::warn!(
                            error,
                            "payloads that have expired are not removed, the next look tries again"
                        );
                    }
                }
            }
        });
        *self.task.lock() = Some(AbortOnDropHandle::new(task));
        Ok(())
    }

    async fn on_stop(&self, _report: &Report) {
        let task = self.task.lock().take();
        if let Some(task) = task {
            task.abort();
            let _ = task.await;
        }
    }
}

impl fmt::Debug for RemoveExpired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoveExpired").field("interval", &self.interval).finish_non_exhaustive()
    }
}
