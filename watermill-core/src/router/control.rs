//! [`RouterControl`]: what can be asked of a router from outside.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{HandlerReport, HandlerStatus, Report, RunError, RunErrorKind, status::Entry, stop::Stop};

/// A handle on a router: to stop it, to look at it, to stop one of its handlers. Cheap to clone.
#[derive(Clone)]
pub struct RouterControl {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) stop: Stop,
    pub(super) abort: CancellationToken,
    phase: watch::Sender<Phase>,
    handlers: Mutex<BTreeMap<String, Entry>>,
    report: Mutex<Report>,
}

/// What a router is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Phase {
    /// It was not run yet, or is starting.
    Starting,
    /// Its handlers have subscribed.
    Running,
    /// It takes no messages any more and finishes those it has.
    Draining,
    /// It has ended.
    Ended,
}

impl RouterControl {
    pub(super) fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                stop: Stop::default(),
                abort: CancellationToken::new(),
                phase: watch::Sender::new(Phase::Starting),
                handlers: Mutex::default(),
                report: Mutex::default(),
            }),
        }
    }

    /// Asks the router to drain: it takes no more messages, finishes those it has, and returns.
    pub fn stop(&self) {
        self.shared.stop.ask();
    }

    /// Ends the router at once: handlers are dropped where they stand, and their messages are
    /// delivered again.
    pub fn abort(&self) {
        self.shared.stop.ask();
        self.shared.abort.cancel();
    }

    /// What the router is doing.
    pub fn phase(&self) -> Phase {
        *self.shared.phase.borrow()
    }

    /// Waits until the router has reached `phase`, or gone past it.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn reached(&self, phase: Phase) {
        // The sender lives in `self`, so this cannot fail.
        let _ = self.shared.phase.subscribe().wait_for(|current| *current >= phase).await;
    }

    /// How the handlers that run, or try to, are doing, by name.
    pub fn handlers(&self) -> Vec<HandlerStatus> {
        self.shared.handlers().values().map(Entry::status).collect()
    }

    /// How one handler is doing; `None` when none of this name runs.
    pub fn handler(&self, name: &str) -> Option<HandlerStatus> {
        self.shared.handlers().get(name).map(Entry::status)
    }

    /// What the handlers did that have ended so far, as [`Router::run`](super::Router::run) returns it in the end. One whose report
    /// says [`Failed`](super::Ended::Failed) and whose name is not among the [`handlers`](Self::handlers) takes no more messages.
    pub fn report(&self) -> Report {
        self.shared.report().clone()
    }

    /// Lets one handler drain, and returns what it did; the others go on, and its name is free again.
    /// Its publisher stays open.
    ///
    /// # Errors
    ///
    /// [`RunErrorKind::NotRunning`] when no handler of this name runs.
    ///
    /// # Cancel safety
    ///
    /// The handler drains also when the future is dropped.
    pub async fn stop_handler(&self, name: &str) -> Result<HandlerReport, RunError> {
        let not_running =
            || RunError::new(RunErrorKind::NotRunning, format!("no handler {name:?} is running"));
        let mut ended = {
            let handlers = self.shared.handlers();
            let entry = handlers.get(name).ok_or_else(not_running)?;
            entry.stop.ask();
            entry.ended.subscribe()
        };
        let report = ended.wait_for(Option::is_some).await.map_err(|_| not_running())?;
        report.clone().ok_or_else(not_running)
    }
}

impl Shared {
    pub(super) fn handlers(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.handlers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the handlers did that have ended.
    pub(super) fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }
}

impl RouterControl {
    /// Runs `work` to its end, and stops the router when `signal` comes meanwhile: `work` notices.
    pub(super) async fn stopped_by<R>(
        &self,
        mut signal: Pin<&mut impl Future>,
        work: impl Future<Output = R>,
    ) -> R {
        let mut work = pin!(work);
        if !self.shared.stop.is_asked() {
            tokio::select! {
                biased;
                result = &mut work => return result,
                _ = &mut signal => self.stop(),
            }
        }
        work.await
    }
}

impl fmt::Debug for RouterControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouterControl").field("phase", &self.phase()).finish_non_exhaustive()
    }
}
