//! [`RouterConfig`].

use std::time::Duration;

use super::RestartPolicy;
use crate::Backoff;

/// How a router starts and stops: plain data.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RouterConfig {
    /// How long [`run`](crate::Router::run) may go on after the router was asked to stop: for handlers to finish,
    /// subscriptions and publishers to close, and plugins to stop. What is not over then is abandoned, and named
    /// in the error; messages in hand are delivered again. 30 s by default.
    pub drain_deadline: Duration,
    /// What to do when a handler cannot subscribe at start. By default the router does not start.
    pub start: StartPolicy,
    /// What to do when a handler ends while the router runs. By default it is started again.
    pub restart: RestartPolicy,
}

/// What to do when a handler cannot subscribe.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum StartPolicy {
    /// The router does not start: the handlers that had subscribed are stopped, and
    /// [`run`](crate::Router::run) returns the error.
    FailFast,
    /// The handler goes on trying while the others run, as long as the error is retryable. One that is refused is not started; and
    /// neither is a handler one of whose [retry topics](crate::RetryTopics) is refused, as what it puts there would not come again.
    Retry(Backoff),
}

impl RouterConfig {
    /// Sets [`drain_deadline`](Self::drain_deadline).
    #[must_use]
    pub fn drain_deadline(mut self, deadline: Duration) -> Self {
        self.drain_deadline = deadline;
        self
    }

    /// Sets [`start`](Self::start).
    #[must_use]
    pub fn start(mut self, start: StartPolicy) -> Self {
        self.start = start;
        self
    }

    /// Sets [`restart`](Self::restart).
    #[must_use]
    pub fn restart(mut self, restart: RestartPolicy) -> Self {
        self.restart = restart;
        self
    }
}

impl Default for RouterConfig {
    fn default() -> Self {
        Self {
            drain_deadline: Duration::from_secs(30),
            start: StartPolicy::FailFast,
            restart: RestartPolicy::default(),
        }
    }
}
