//! [`Supervisor`]: the life of a router: it starts the handlers, watches them, and ends.

mod ending;
mod start;
mod subscribing;
mod task;

use std::{
    any::type_name,
    future::Future,
    pin::{Pin, pin},
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, mpsc},
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until, timeout},
};

pub(super) use self::ending::Closing;
use self::{
    ending::Ending,
    task::{Answer, Finished},
};
use super::{
    Ended, Phase, Plugin, Report, RouterConfig, RouterControl, RunError, RunErrorKind,
    prepared::{Prepared, short},
    status::Entry,
    try_timer::TryTimers,
};
use crate::{Publisher, Subscriber, error::chain, message::spans::SharedSpans};

/// How many handlers may subscribe at a time.
const SUBSCRIBING_MAX: usize = 32;

/// How long a task that was aborted may take to notice: only one that blocks its thread takes longer than none.
const ABORT_WITHIN: Duration = Duration::from_millis(100);

/// A handler to add while the router runs, and who waits for the answer.
pub(super) struct Addition {
    pub(super) prepared: Prepared,
    pub(super) answer: Answer,
}

/// What is put around the publishers and subscribers of all handlers, in the order in which it was added.
#[derive(Default)]
pub(super) struct Decorators {
    pub(super) publisher: Vec<Decorate<dyn Publisher>>,
    pub(super) subscriber: Vec<Decorate<dyn Subscriber>>,
    pub(super) spans: Option<SharedSpans>,
    pub(super) timers: Option<TryTimers>,
}

type Decorate<T> = Arc<dyn Fn(Arc<T>) -> Arc<T> + Send + Sync>;

/// A plugin, and the name of its type.
pub(super) struct NamedPlugin {
    pub(super) name: &'static str,
    pub(super) plugin: Box<dyn Plugin>,
}

pub(super) struct Supervisor {
    config: RouterConfig,
    control: RouterControl,
    plugins: Vec<NamedPlugin>,
    /// How many of them have started.
    plugins_started: usize,
    decorators: Decorators,
    closing: Vec<Closing>,
    additions: mpsc::Receiver<Addition>,
    tasks: JoinSet<Finished>,
    /// Lets so many handlers subscribe at a time.
    turns: Arc<Semaphore>,
}

impl Supervisor {
    pub(super) fn new(
        config: RouterConfig,
        control: RouterControl,
        plugins: Vec<NamedPlugin>,
        decorators: Decorators,
        closing: Vec<Closing>,
        additions: mpsc::Receiver<Addition>,
    ) -> Self {
        Self {
            config,
            control,
            plugins,
            plugins_started: 0,
            decorators,
            closing,
            additions,
            tasks: JoinSet::new(),
            turns: Arc::new(Semaphore::new(SUBSCRIBING_MAX)),
        }
    }

    /// Starts the handlers, runs them until `signal`, a stop, or the failure of all of them, and ends.
    pub(super) async fn run(
        mut self,
        handlers: Vec<Prepared>,
        problems: Vec<String>,
        signal: impl Future,
    ) -> Result<Report, RunError> {
        let _ended = EndsOnDrop(self.control.clone());
        let mut signal = pin!(signal);
        let deadline = OnceLock::new();
        let started = self.start_in_time(handlers, problems, signal.as_mut(), &deadline).await;
        if started.is_ok() {
            self.control.shared.enter(Phase::Running);
            self.watch(signal).await;
            self.control.shared.enter(Phase::Draining);
        }
        let deadline = deadline.get().copied().unwrap_or_else(|| Instant::now() + self.config.drain_deadline);
        let mut ending = Ending::new(deadline, self.control.shared.abort.clone());
        self.refuse_additions();
        match started {
            Ok(()) => self.drain(&mut ending).await,
            // Whoever had subscribed has handled nothing: dropping gives everything back.
            Err(_) => self.abort_tasks().await,
        }
        ending.close(self.closing).await;
        let report = self.control.report();
        ending.stop(&self.plugins[..self.plugins_started], &report).await;
        let abandoned = ending.into_abandoned();
        match started {
            Ok(()) => RunError::check(report, abandoned),
            Err(error) => Err(error.and(&abandoned).with_report(report)),
        }
    }

    /// Starts everything, and gives up where a stop came and the deadline has passed since. The deadline is left
    /// behind for what comes next.
    async fn start_in_time(
        &mut self,
        handlers: Vec<Prepared>,
        problems: Vec<String>,
        signal: Pin<&mut impl Future>,
        deadline: &OnceLock<Instant>,
    ) -> Result<(), RunError> {
        let (control, drain_deadline) = (self.control.clone(), self.config.drain_deadline);
        let late = async {
            control.shared.stop.asked().await;
            let at = *deadline.get_or_init(|| Instant::now() + drain_deadline);
            control.shared.abort.run_until_cancelled(sleep_until(at)).await;
        };
        tokio::select! {
            biased;
            started = control.stopped_by(signal, self.start(handlers, problems)) => started,
            () = late => Err(RunError::new(RunErrorKind::Abandoned, "the start was not over")),
        }
    }

    /// Runs until it is time to drain.
    async fn watch(&mut self, mut signal: Pin<&mut impl Future>) {
        let control = self.control.clone();
        loop {
            if self.tasks.is_empty() && control.shared.report().has_failed() {
                tracing::error!("every handler has failed; the router stops");
                return control.stop();
            }
            tokio::select! {
                biased;
                () = control.shared.stop.asked() => return,
                _ = &mut signal => return control.stop(),
                Some(addition) = self.additions.recv() => self.add(addition),
                Some(finished) = self.tasks.join_next() => self.finished(finished),
            }
        }
    }

    /// Whoever waits to add a handler need not wait for the drain.
    fn refuse_additions(&mut self) {
        self.additions.close();
        while self.additions.try_recv().is_ok() {}
    }

    /// Waits for the handlers, as long as there is time.
    async fn drain(&mut self, ending: &mut Ending) {
        let drained = ending.bound(async {
            while let Some(finished) = self.tasks.join_next().await {
                self.finished(finished);
            }
        });
        if drained.await.is_none() {
            self.abort_tasks().await;
        }
        let left = std::mem::take(&mut *self.control.shared.handlers());
        for entry in left.into_values() {
            ending.abandon(entry.unfinished());
            self.record(entry, Ended::Abandoned);
        }
    }

    async fn abort_tasks(&mut self) {
        self.tasks.abort_all();
        let gone = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(ABORT_WITHIN, gone).await.is_err() {
            tracing::error!("a handler blocks its thread and is left behind");
        }
    }

    fn finished(&mut self, finished: Result<Finished, JoinError>) {
        let Finished { info, ended } = match finished {
            Ok(finished) => finished,
            // Panics are caught; what is left is one while the task itself is dropped.
            Err(error) => return tracing::error!(error = chain(&error), "a handler's task has panicked"),
        };
        let Some(ended) = ended else { return };
        if let Ended::Failed { error } = &ended {
            tracing::error!(
                handler = info.name,
                topic = info.subscribe_topic,
                error,
                "the handler has failed and takes no more messages"
            );
            for NamedPlugin { plugin, .. } in &self.plugins {
                plugin.on_handler_failed(&info, error);
            }
        }
        let entry = self.control.shared.handlers().remove(&info.name);
        if let Some(entry) = entry {
            self.record(entry, ended);
        }
    }

    fn record(&mut self, entry: Entry, ended: Ended) {
        let report = entry.report(ended);
        tracing::debug!(handler = report.info.name, counts = %report.counts, ended = ?report.ended, "handler ended");
        self.control.shared.report().push(report.clone());
        entry.ended.send_replace(Some(report));
    }
}

impl NamedPlugin {
    pub(super) fn new<P: Plugin + 'static>(plugin: P) -> Self {
        Self { name: short(type_name::<P>()), plugin: Box::new(plugin) }
    }
}

/// Ends the router for whoever looks at it from outside, also when its future is dropped.
struct EndsOnDrop(RouterControl);

impl Drop for EndsOnDrop {
    fn drop(&mut self) {
        self.0.shared.handlers().clear();
        self.0.shared.enter(Phase::Ended);
    }
}
