//! [`Ending`]: the end of a router, which has a deadline, and what was not over by then.

use std::{future::Future, sync::Arc};

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::NamedPlugin;
use crate::{Publisher, Subscriber, error::chain, panic::CatchPanic, router::Report};

/// What may still be done until the deadline or an abort, and what was given up.
pub(super) struct Ending {
    deadline: Instant,
    abort: CancellationToken,
    abandoned: Vec<String>,
}

/// What a router was asked to close at its end.
pub(in crate::router) enum Closing {
    Publisher(Arc<dyn Publisher>),
    Subscriber(Arc<dyn Subscriber>),
}

impl Ending {
    pub(super) fn new(deadline: Instant, abort: CancellationToken) -> Self {
        Self { deadline, abort, abandoned: Vec::new() }
    }

    /// Runs `work` as long as there is time; `None` when there was not enough. Even late it is polled once: what
    /// needs no waiting is done.
    pub(super) async fn bound<R>(&self, work: impl Future<Output = R>) -> Option<R> {
        tokio::select! {
            biased;
            result = work => Some(result),
            () = self.abort.cancelled() => None,
            () = sleep_until(self.deadline) => None,
        }
    }

    /// Remembers what was given up.
    pub(super) fn abandon(&mut self, what: String) {
        tracing::error!(what, "not over by the drain deadline, and abandoned");
        self.abandoned.push(what);
    }

    /// Closes what the router was asked to close, one after another.
    pub(super) async fn close(&mut self, closing: Vec<Closing>) {
        for closing in closing {
            if self.bound(closing.close()).await.is_none() {
                self.abandon(closing.name());
            }
        }
    }

    /// Stops plugins, the last one first.
    pub(super) async fn stop(&mut self, plugins: &[NamedPlugin], report: &Report) {
        for NamedPlugin { name, plugin } in plugins.iter().rev() {
            match self.bound(CatchPanic::new(|| plugin.on_stop(report))).await {
                Some(Ok(())) => {}
                Some(Err(panicked)) => {
                    tracing::error!(
                        plugin = name,
                        error = chain(&panicked),
                        "a plugin panicked as it stopped"
                    );
                }
                None => self.abandon(format!("stopping plugin {name}")),
            }
        }
    }

    /// What was given up, in the order in which it was.
    pub(super) fn into_abandoned(self) -> Vec<String> {
        self.abandoned
    }
}

impl Closing {
    async fn close(&self) {
        let closed = CatchPanic::new(|| async {
            match self {
                Self::Publisher(publisher) => publisher.close().await.map_err(|error| chain(&error)),
                Self::Subscriber(subscriber) => subscriber.close().await.map_err(|error| chain(&error)),
            }
        });
        if let Err(error) = closed.await.unwrap_or_else(|panicked| Err(chain(&panicked))) {
            tracing::error!(what = self.name(), error, "could not be closed");
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Publisher(publisher) => {
                format!("closing a publisher ({})", publisher.capabilities().backend)
            }
            Self::Subscriber(subscriber) => {
                format!("closing a subscriber ({})", subscriber.capabilities().backend)
            }
        }
    }
}
