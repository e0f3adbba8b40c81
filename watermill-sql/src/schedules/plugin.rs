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

use super::{SqlSchedules, pauses::Pauses, sql_schedules::Shared};
use crate::SqlDatabase;

/// A look is this long apart from the next at the least, however much is due.
const PAUSE: Duration = Duration::from_millis(5);

/// While the router runs, what is due fires. What goes wrong is in the log and is tried again, with growing pauses; a schedule
/// that fails holds up no other.
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
    let (backoff, mut pauses) = (Backoff::default(), Pauses::default());
    let mut failures = 0;
    loop {
        let (wait, failed) = match shared.fire_but(&mut pauses).await {
            Ok((report, failed)) => {
                failures = 0;
                (report.next_in.unwrap_or(shared.look_within), failed)
            }
            Err(error) => {
                let wait = backoff.delay(failures);
                failures = failures.saturating_add(1);
                (wait, vec![error])
            }
        };
        for error in failed {
            tracing::warn!(
                schedule = error.schedule(),
                error = chain(&error),
                "a schedule has not fired; what is due stays due, and is tried again"
            );
        }
        sleep(wait.min(shared.look_within).max(PAUSE)).await;
    }
}
