//! Runs the handlers of a router: starts them, watches them, drains them.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
};

use futures::future::BoxFuture;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Ended, HandlerInfo, HandlerReport, Phase, Plugin, Report, RouterConfig, RouterControl, RunError,
    RunErrorKind, StartPolicy,
    concurrency::Concurrency,
    control::Entry,
    failure::FailurePolicy,
    report::failed,
    sink::Sink,
    worker::{self, Environment},
};
use crate::{
    Publisher, Subscriber, Subscription,
    error::{SubscribeError, chain},
    panic::CatchPanic,
};

/// Changes the publisher of every handler.
pub(super) type DecoratePublisher = Arc<dyn Fn(Arc<dyn Publisher>) -> Arc<dyn Publisher> + Send + Sync>;
/// Changes the subscriber of every handler.
pub(super) type DecorateSubscriber = Arc<dyn Fn(Arc<dyn Subscriber>) -> Arc<dyn Subscriber> + Send + Sync>;
/// Drives the service of one handler, whose type is known only to whoever made this.
pub(super) type Drive =
    Box<dyn FnOnce(Subscription, Environment) -> BoxFuture<'static, (Subscription, worker::End)> + Send>;

/// A handler that waits to be started, with its service's type erased.
pub(super) struct Prepared {
    pub(super) name: String,
    pub(super) subscriber: Arc<dyn Subscriber>,
    pub(super) topic: String,
    pub(super) group: Option<String>,
    pub(super) sink: Sink,
    pub(super) policy: FailurePolicy,
    pub(super) concurrency: Concurrency,
    pub(super) pipeline: usize,
    pub(super) chain: String,
    pub(super) problems: Vec<String>,
    pub(super) drive: Drive,
}

/// A handler to add while the router runs, and who waits for the answer.
pub(super) type Addition = (Prepared, oneshot::Sender<Result<(), RunError>>);

pub(super) struct Supervisor {
    pub(super) config: RouterConfig,
    pub(super) control: RouterControl,
    pub(super) plugins: Vec<Box<dyn Plugin>>,
    pub(super) decorate_publisher: Vec<DecoratePublisher>,
    pub(super) decorate_subscriber: Vec<DecorateSubscriber>,
    pub(super) additions: mpsc::Receiver<Addition>,
    pub(super) tasks: JoinSet<(Arc<HandlerInfo>, Ended)>,
    /// Every publisher of a handler that was started, to close at the end.
    pub(super) publishers: Vec<Arc<dyn Publisher>>,
    pub(super) report: Report,
}

impl Supervisor {
    /// Starts the handlers and runs them until `signal`, a stop, or the failure of all of them.
    pub(super) async fn run(
        mut self,
        handlers: Vec<Prepared>,
        problems: Vec<String>,
        signal: impl Future,
    ) -> Result<Report, RunError> {
        let _end = End::of(&self.control);
        let mut signal = pin!(signal);
        let control = self.control.clone();
        let started = control.stopped_by(signal.as_mut(), self.start_all(handlers, problems)).await;
        if let Err(error) = started {
            // Whoever had subscribed has handled nothing: dropping gives everything back.
            self.tasks.shutdown().await;
            return Err(error);
        }
        self.control.shared.enter(Phase::Running);
        self.watch(signal).await;
        self.control.shared.enter(Phase::Draining);
        // Whoever waits to add a handler need not wait for the drain.
        self.additions.close();
        while self.additions.try_recv().is_ok() {}
        self.drain().await;
        let abort = self.control.shared.abort.clone();
        if abort.run_until_cancelled(self.close_publishers()).await.is_none() {
            tracing::warn!("the router was aborted before its publishers were closed");
        }
        for plugin in &self.plugins {
            plugin.on_stop(&self.report).await;
        }
        RunError::check(self.report)
    }

    async fn start_all(&mut self, handlers: Vec<Prepared>, problems: Vec<String>) -> Result<(), RunError> {
        check(&handlers, problems)?;
        for plugin in &self.plugins {
            let refused = |source| RunError::new(RunErrorKind::Plugin, "it refused").with_source(source);
            plugin.on_start(&self.control).await.map_err(refused)?;
        }
        for handler in handlers {
            self.start(handler).await?;
        }
        Ok(())
    }

    /// Subscribes and spawns the handler's task.
    async fn start(&mut self, prepared: Prepared) -> Result<(), RunError> {
        if self.control.shared.handlers().contains_key(&prepared.name) {
            return Err(RunError::new(RunErrorKind::Build, duplicate(&prepared.name)));
        }
        let cannot = |error: SubscribeError| {
            RunError::new(RunErrorKind::Start, format!("handler {:?}", prepared.name)).with_source(error)
        };
        let subscriber = match &prepared.group {
            Some(group) => prepared.subscriber.in_group(group).map_err(cannot)?,
            None => prepared.subscriber.clone(),
        };
        // In both directions a message passes the decorators in the order they were added.
        let subscriber = self.decorate_subscriber.iter().fold(subscriber, |inner, decorate| decorate(inner));
        let subscribed = match self.config.start {
            StartPolicy::FailFast => {
                let subscribe = subscriber.subscribe(&prepared.topic);
                match self.control.shared.stop.run_until_cancelled(subscribe).await {
                    Some(subscribed) => Ok(subscribed.map_err(cannot)?),
                    // Asked to stop before it had begun: there is nothing to drain.
                    None => return Ok(()),
                }
            }
            StartPolicy::Retry(backoff) => Err(backoff),
        };

        let mut sink = prepared.sink;
        if let Some(publisher) = sink.publisher.take() {
            let publisher =
                self.decorate_publisher.iter().rev().fold(publisher, |inner, decorate| decorate(inner));
            // The outermost: a decorator that holds something closes it, then what it wraps.
            self.publishers.push(publisher.clone());
            sink.publisher = Some(publisher);
        }
        if let Some(dead_letter) = prepared.policy.dead_letter() {
            self.publishers.push(dead_letter.publisher().clone());
        }
        let backend = |publisher: &Arc<dyn Publisher>| publisher.capabilities().backend.to_owned();
        let info = Arc::new(HandlerInfo {
            name: prepared.name.clone(),
            subscribe_topic: prepared.topic.clone(),
            group: prepared.group,
            subscriber: subscriber.capabilities().backend.to_owned(),
            publisher: sink.publisher.as_ref().map(backend),
            publish_topic: sink.topic.clone(),
        });
        let env = Environment::new(
            info.clone(),
            sink,
            prepared.policy,
            prepared.concurrency,
            prepared.pipeline,
            &subscriber.capabilities(),
            self.control.shared.stop.child_token(),
        );
        let entry = Entry {
            info: info.clone(),
            chain: prepared.chain,
            counters: env.counters.clone(),
            trouble: env.trouble.clone(),
            stop: env.stop.clone(),
            subscription: None,
            ended: watch::Sender::new(None),
        };
        self.control.shared.handlers().insert(prepared.name, entry);
        let control = self.control.clone();
        let (topic, drive) = (prepared.topic, prepared.drive);
        let of_task = info.clone();
        let run = async move {
            let subscribed = match subscribed {
                Ok(subscription) => Ok(Some(subscription)),
                Err(backoff) => subscribe(&*subscriber, &topic, backoff, &env).await,
            };
            let subscription = match subscribed {
                Ok(None) => return Ended::Stopped,
                Err(error) => return failed(&error),
                Ok(Some(subscription)) => subscription,
            };
            if let Some(entry) = control.shared.handlers().get_mut(&of_task.name) {
                entry.subscription = Some(subscription.control());
            }
            // Not before the others have subscribed too: a start that fails has handled nothing.
            control.reached(Phase::Running).await;
            let (subscription, end) = drive(subscription, env).await;
            match (end, subscription.close().await) {
                (worker::End::Failed(error) | worker::End::SubscriptionEnded(error), _) => failed(&*error),
                (worker::End::Stopped, Err(error)) => failed(&error),
                (worker::End::Stopped, Ok(())) => Ended::Stopped,
            }
        };
        self.tasks.spawn(async move {
            // Panics of handlers are their messages' failures. One of a layer's readiness, of a policy or
            // of a backend ends its handler, and is told like any other end.
            let ended = CatchPanic::new(|| run).await.unwrap_or_else(|panicked| failed(&panicked));
            (info, ended)
        });
        Ok(())
    }

    /// Runs until it is time to drain.
    async fn watch(&mut self, mut signal: Pin<&mut impl Future>) {
        let control = self.control.clone();
        loop {
            tokio::select! {
                biased;
                () = control.shared.stop.cancelled() => return,
                _ = &mut signal => return control.stop(),
                Some((prepared, answer)) = self.additions.recv() => {
                    let problems = check(std::slice::from_ref(&prepared), Vec::new());
                    let added = match problems {
                        Ok(()) => control.stopped_by(signal.as_mut(), self.start(prepared)).await,
                        Err(error) => Err(error),
                    };
                    // Nobody may be waiting any more; the handler runs all the same.
                    let _ = answer.send(added);
                }
                Some(ended) = self.tasks.join_next() => {
                    self.ended(ended);
                    let all_failed = self.tasks.is_empty() && self.report.failed().next().is_some();
                    if all_failed {
                        tracing::error!("every handler has failed; the router stops");
                        return control.stop();
                    }
                }
            }
        }
    }

    /// Waits for the handlers, up to the deadline.
    async fn drain(&mut self) {
        let abort = self.control.shared.abort.clone();
        let deadline = self.config.drain_deadline;
        let drained = timeout(
            deadline,
            abort.run_until_cancelled(async {
                while let Some(ended) = self.tasks.join_next().await {
                    self.ended(ended);
                }
            }),
        );
        if !matches!(drained.await, Ok(Some(()))) {
            self.tasks.shutdown().await;
        }
        let left = std::mem::take(&mut *self.control.shared.handlers());
        for entry in left.into_values() {
            self.record(entry, Ended::Abandoned);
        }
    }

    fn ended(&mut self, ended: Result<(Arc<HandlerInfo>, Ended), tokio::task::JoinError>) {
        match ended {
            Ok((info, ended)) => {
                if let Ended::Failed { error } = &ended {
                    tracing::error!(
                        handler = info.name,
                        topic = info.subscribe_topic,
                        error,
                        "the handler has failed and takes no more messages"
                    );
                    for plugin in &self.plugins {
                        plugin.on_handler_failed(&info, error);
                    }
                }
                let entry = self.control.shared.handlers().remove(&info.name);
                if let Some(entry) = entry {
                    self.record(entry, ended);
                }
            }
            // Panics are caught; what is left is one while the task itself is dropped.
            Err(error) => tracing::error!(error = chain(&error), "a handler's task has panicked"),
        }
    }

    fn record(&mut self, entry: Entry, ended: Ended) {
        let report = HandlerReport { info: (*entry.info).clone(), counts: entry.counters.snapshot(), ended };
        tracing::debug!(handler = report.info.name, counts = %report.counts, ended = ?report.ended, "handler ended");
        self.report.handlers.push(report.clone());
        entry.ended.send_replace(Some(report));
    }

    async fn close_publishers(&mut self) {
        for publisher in self.publishers.drain(..) {
            if let Err(error) = publisher.close().await {
                tracing::error!(error = chain(&error), "a publisher could not be closed");
            }
        }
    }
}

impl RouterControl {
    /// Runs `work` to its end, and stops the router when `signal` comes meanwhile: `work` notices.
    async fn stopped_by<R>(&self, mut signal: Pin<&mut impl Future>, work: impl Future<Output = R>) -> R {
        let mut work = pin!(work);
        if !self.shared.stop.is_cancelled() {
            tokio::select! {
                biased;
                result = &mut work => return result,
                _ = &mut signal => self.stop(),
            }
        }
        work.await
    }
}

/// Ends the router for whoever looks at it from outside, also when its future is dropped.
struct End(RouterControl);

impl End {
    fn of(control: &RouterControl) -> Self {
        Self(control.clone())
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.0.shared.handlers().clear();
        self.0.shared.enter(Phase::Ended);
    }
}

/// Subscribes, however long it takes; `None` when it was asked to stop before.
async fn subscribe(
    subscriber: &dyn Subscriber,
    topic: &str,
    backoff: crate::Backoff,
    env: &Environment,
) -> Result<Option<Subscription>, SubscribeError> {
    let mut retry = 0;
    loop {
        let Some(subscribed) = env.stop.run_until_cancelled(subscriber.subscribe(topic)).await else {
            return Ok(None);
        };
        match subscribed {
            Ok(subscription) => return Ok(Some(subscription)),
            Err(error) if !error.is_retryable() => return Err(error),
            Err(error) => {
                let delay = backoff.delay(retry);
                retry += 1;
                tracing::warn!(
                    handler = env.info.name,
                    ?delay,
                    error = chain(&error),
                    "cannot subscribe yet"
                );
                if env.stop.run_until_cancelled(sleep(delay)).await.is_none() {
                    return Ok(None);
                }
            }
        }
    }
}

/// Everything that can be known to be wrong before anything is started.
fn check(handlers: &[Prepared], mut problems: Vec<String>) -> Result<(), RunError> {
    let mut names = BTreeMap::new();
    for handler in handlers {
        if names.insert(&handler.name, ()).is_some() {
            problems.push(duplicate(&handler.name));
        }
        let of_handler = |problem: &str| format!("handler {:?}: {problem}", handler.name);
        problems.extend(handler.problems.iter().map(|problem| of_handler(problem)));
        problems.extend(handler.policy.problem().map(of_handler));
        if handler.topic.is_empty() {
            problems.push(of_handler("the topic it consumes has no name"));
        }
        if handler.sink.topic.as_deref() == Some("") {
            problems.push(of_handler("the topic it publishes to has no name"));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(RunError::new(RunErrorKind::Build, problems.join("; "))) }
}

fn duplicate(name: &str) -> String {
    format!("two handlers are named {name:?}; names are unique in a router")
}
