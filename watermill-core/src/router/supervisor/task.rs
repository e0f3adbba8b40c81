//! [`Task`]: the life of one handler: it subscribes, runs, and is started again when it ends too early.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

use super::subscribing::Subscribing;
use crate::{
    Subscription,
    error::{SubscribeError, SubscribeErrorKind, chain},
    panic::CatchPanic,
    router::{
        Added, Ended, HandlerInfo, Phase, RestartPolicy, RunError, RunErrorKind, StartPolicy,
        restart::Restarts, runner::Run, status::Stage, worker::End,
    },
};

/// Who waits to hear whether a handler has started.
pub(in crate::router) type Answer = oneshot::Sender<Result<Added, RunError>>;

/// A handler that is about to run.
pub(super) struct Task {
    pub(super) runner: Box<dyn Run>,
    pub(super) subscribing: Subscribing,
    pub(super) policies: Policies,
}

/// What a task does when something does not go well.
#[derive(Clone, Copy)]
pub(super) struct Policies {
    pub(super) start: StartPolicy,
    pub(super) restart: RestartPolicy,
    /// How long a subscription may take to close before the next is begun.
    pub(super) close_within: Duration,
}

/// A task that is over.
pub(super) struct Finished {
    pub(super) info: Arc<HandlerInfo>,
    /// `None` for a handler that was never started: whoever wanted to start it has been told why.
    pub(super) ended: Option<Ended>,
}

/// How a handler got on with one subscription.
enum Round {
    /// It ends here.
    Over(Ended),
    /// It ended too early.
    Failed { error: String, service_broken: bool },
}

impl Task {
    /// Runs the handler to its end, restarts included.
    pub(super) async fn run(self, answer: Answer) -> Finished {
        let info = self.subscribing.env.info.clone();
        // What may panic is caught where it is known what to do about it; this is for the rest.
        let ended = CatchPanic::new(|| self.live(answer)).await;
        let ended = ended.unwrap_or_else(|panicked| Some(Ended::Failed { error: chain(&panicked) }));
        Finished { info, ended }
    }

    async fn live(mut self, answer: Answer) -> Option<Ended> {
        let mut subscription = match self.begin(answer).await {
            Ok(subscription) => subscription,
            Err(ended) => return ended,
        };
        // Not before the others have subscribed too: a start that fails has handled nothing.
        self.subscribing.control.reached(Phase::Running).await;
        let mut restarts = Restarts::new(self.policies.restart);
        loop {
            let began = Instant::now();
            let (error, service_broken) = match self.round(subscription).await {
                Round::Over(ended) => return Some(ended),
                Round::Failed { error, .. } if self.subscribing.env.stop.is_asked() => {
                    return Some(Ended::Failed { error });
                }
                Round::Failed { error, service_broken } => (error, service_broken),
            };
            subscription = match self.again(&mut restarts, began.elapsed(), error, service_broken).await {
                Ok(subscription) => subscription,
                Err(ended) => return Some(ended),
            };
        }
    }

    /// Subscribes for the first time, and tells whoever waits. Otherwise this is the handler's end, or it was not
    /// started at all, and has none.
    async fn begin(&mut self, answer: Answer) -> Result<Subscription, Option<Ended>> {
        let mut answer = Some(answer);
        // Nobody may be waiting any more; the handler runs all the same.
        let mut tell = |told| answer.take().map(|answer| answer.send(told)).is_some();
        let mut tries = 0;
        loop {
            let error = match self.subscribing.once().await {
                Some(Ok(subscription)) => {
                    tell(Ok(Added::Subscribed));
                    return Ok(subscription);
                }
                None => {
                    tell(Err(RunError::not_running()));
                    return Err(Some(Ended::Stopped));
                }
                Some(Err(error)) => error,
            };
            let waits = match self.policies.start {
                StartPolicy::Retry(waits) if error.is_retryable() => waits,
                // Whoever waited was told that it goes on trying, and it did.
                StartPolicy::Retry(_) if tries > 0 => {
                    return Err(Some(Ended::Failed { error: chain(&error) }));
                }
                _ => {
                    // Its name is free before anybody hears of it.
                    self.subscribing.forget();
                    tell(Err(cannot_start(self.subscribing.name(), error)));
                    return Err(None);
                }
            };
            tell(Ok(Added::Retrying { error: chain(&error) }));
            if !self.subscribing.wait(waits, tries, &error).await {
                return Err(Some(Ended::Stopped));
            }
            tries += 1;
        }
    }

    /// Runs with one subscription, to its end.
    async fn round(&mut self, subscription: Subscription) -> Round {
        self.subscribing.enter(Stage::Running(subscription.control()));
        let driven = CatchPanic::new(|| self.runner.drive(subscription, &self.subscribing.env)).await;
        let (subscription, end) = match driven {
            Ok(driven) => driven,
            // Panics of handlers are their messages' failures. This is one of a layer's readiness, of a policy or
            // of a backend; the subscription went with it.
            Err(panicked) => return Round::Failed { error: chain(&panicked), service_broken: true },
        };
        self.subscribing.enter(Stage::Closing);
        let closing = CatchPanic::new(|| subscription.close());
        let (error, service_broken) = match end {
            End::Stopped => {
                return Round::Over(match closing.await {
                    Ok(Ok(())) => Ended::Stopped,
                    Ok(Err(error)) => Ended::Failed { error: chain(&error) },
                    Err(panicked) => Ended::Failed { error: chain(&panicked) },
                });
            }
            End::Closed(error) => {
                let _ = timeout(self.policies.close_within, closing).await;
                return Round::Over(Ended::Failed { error: chain(&*error) });
            }
            End::SubscriptionEnded(error) => (error, false),
            End::ServiceFailed(error) => (error, true),
        };
        if !matches!(timeout(self.policies.close_within, closing).await, Ok(Ok(Ok(())))) {
            tracing::warn!(
                handler = self.subscribing.name(),
                topic = self.subscribing.env.info.subscribe_topic,
                "settlements of a subscription that failed may not be recorded; their messages come again"
            );
        }
        Round::Failed { error: chain(&*error), service_broken }
    }

    /// Subscribes again, as the policy says, after `error` ended the handler that had run for so long. Or ends
    /// for good.
    async fn again(
        &mut self,
        restarts: &mut Restarts,
        mut ran: Duration,
        mut error: String,
        service_broken: bool,
    ) -> Result<Subscription, Ended> {
        let mut renewed = !service_broken;
        loop {
            let Some(wait) = restarts.next(ran) else {
                return Err(Ended::Failed { error });
            };
            if !renewed && !self.runner.renew() {
                return Err(Ended::Failed { error: format!("{error}; its service cannot be made again") });
            }
            renewed = true;
            tracing::error!(
                handler = self.subscribing.name(),
                topic = self.subscribing.env.info.subscribe_topic,
                ?wait,
                error,
                "the handler ended and is started again"
            );
            self.subscribing.enter(Stage::Restarting { at: Instant::now() + wait, error });
            if self.subscribing.env.stop.run_until_asked(sleep(wait)).await.is_none() {
                return Err(Ended::Stopped);
            }
            self.subscribing.count_restart();
            match self.subscribing.patiently(self.policies.restart.waits()).await {
                Ok(Some(subscription)) => return Ok(subscription),
                Ok(None) => return Err(Ended::Stopped),
                Err(refused) if refused.kind() == SubscribeErrorKind::Closed => {
                    return Err(Ended::Failed { error: chain(&refused) });
                }
                Err(refused) => error = chain(&refused),
            }
            ran = Duration::ZERO;
        }
    }
}

pub(super) fn cannot_start(name: &str, error: SubscribeError) -> RunError {
    RunError::new(RunErrorKind::Start, format!("handler {name:?}")).with_source(error)
}
