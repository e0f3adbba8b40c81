//! [`SqlSchedules`] as a task of a router.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use watermill_core::{
    Backoff,
    error::{BoxError, chain},
    router::{Plugin, Report, RouterControl},
};

use super::{SqlSchedules, sql_schedules::Shared};
use crate::SqlDatabase;

/// A look is this long apart from the next at the least, however much is due.
const PAUSE: Duration = Duration::from_millis(5);

/// While the router runs, what is due fires. What goes wrong is in the log and is tried again, with growing pauses.
#[async_trait]
impl<D: SqlDatabase> Plugin for SqlSchedules<D> {
    async fn on_start(&self, _control: &RouterControl) -> Result<(), BoxError> {
        let shared = self.shared().clone();
        self.hold(Some(AbortOnDropHandle::new(tokio::spawn(keep_firing(shared)))));
        Ok(())
    }

    async fn on_stop(&self, _report: &Report) {
        if let Some(task) = self.hold(None) {
            task.abort();
            // A transaction in progress is rolled back; a pool that is closed next waits for its connection.
            let _ = task.await;
        }
    }
}

impl<D: SqlDatabase> SqlSchedules<D> {
    fn hold(&self, task: Option<AbortOnDropHandle<()>>) -> Option<AbortOnDropHandle<()>> {
        let mut held = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut held, task)
    }
}

async fn keep_firing<D: SqlDatabase>(shared: Arc<Shared<D>>) {
    let backoff = Backoff::default();
    let mut failures = 0;
    loop {
        let wait = match shared.fire_due().await {
            Ok(report) => {
                failures = 0;
                report.next_in.unwrap_or(shared.look_within).min(shared.look_within)
            }
            Err(error) => {
                let wait = backoff.delay(failures).min(shared.look_within);
                failures = failures.saturating_add(1);
                tracing::warn!(
                    schedule = error.schedule(),
                    error = chain(&error),
                    ?wait,
                    "a schedule has not fired; what is due stays due, and is tried again"
                );
                wait
            }
        };
        sleep(wait.max(PAUSE)).await;
    }
}
