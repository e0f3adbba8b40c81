//! [`Signals`]: stops a router on SIGINT and SIGTERM.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use tokio_util::task::AbortOnDropHandle;

use super::{Plugin, Report, RouterControl};
use crate::error::BoxError;

/// The first SIGINT or SIGTERM (Ctrl-C where there are no such signals) lets the router drain; the
/// second aborts it.
///
/// ```no_run
/// # async fn run() -> Result<(), watermill_core::router::RunError> {
/// use watermill_core::{Router, router::Signals};
///
/// Router::new().plugin(Signals::new()).run().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Signals {
    /// Ends with the router: signals are the program's own again then.
    task: Mutex<Option<AbortOnDropHandle<()>>>,
}

impl Signals {
    /// Listens once the router starts.
    pub fn new() -> Self {
        Self::default()
    }

    fn hold(&self, task: Option<AbortOnDropHandle<()>>) {
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = task;
    }
}

#[async_trait]
impl Plugin for Signals {
    async fn on_start(&self, control: &RouterControl) -> Result<(), BoxError> {
        let control = control.clone();
        let mut listener = Listener::new()?;
        let task = tokio::spawn(async move {
            listener.next().await;
            tracing::info!("signal received; the router drains, a second signal aborts it");
            control.stop();
            listener.next().await;
            tracing::warn!("second signal received; the router is aborted");
            control.abort();
        });
        self.hold(Some(AbortOnDropHandle::new(task)));
        Ok(())
    }

    async fn on_stop(&self, _report: &Report) {
        self.hold(None);
    }
}

#[cfg(unix)]
struct Listener {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Listener {
    fn new() -> Result<Self, BoxError> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Listener;

#[cfg(not(unix))]
impl Listener {
    fn new() -> Result<Self, BoxError> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
