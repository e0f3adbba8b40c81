//! [`SharedConnection`]: a connection that is made when it is needed, and again when it is lost.

use std::{
    fmt,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;
use futures::poll;
use tokio::{
    sync::{Mutex, MutexGuard},
    task::unconstrained,
    time::{Instant, sleep_until},
};

use super::{Failure, Trouble};
use crate::Backoff;

/// How a [`SharedConnection`] is made, and when it is lost.
#[async_trait]
pub trait Connect: Send + Sync + 'static {
    /// A handle to a connection that many calls use at once. Each call gets a clone.
    type Connection: Clone + Send;

    /// What connecting and calls fail with.
    type Error: Send;

    /// Connects, or fails, within a time that is bounded.
    async fn connect(&self) -> Result<Self::Connection, Self::Error>;

    /// Whether the connection is gone with this error, so that the next call needs another.
    fn is_lost(&self, error: &Self::Error) -> bool;

    /// What an error means.
    fn classify(&self, error: Self::Error) -> Failure;
}

/// A connection that all callers share: made by the first call, and made again by the next one after it was lost.
///
/// Calls begin in the order in which they were first polled, without waiting for each other's answers. While the
/// server is away, one call at a time tries to connect, after waits that grow up to
/// [`waits`](Self::waits); calls that have waited for that attempt fail with it, and do not try one after another.
pub struct SharedConnection<C: Connect> {
    connect: C,
    waits: Backoff,
    open: Mutex<Open<C::Connection>>,
    /// How many attempts to connect have failed.
    failed: AtomicU64,
}

struct Open<T> {
    connection: Option<T>,
    /// How many connections there have been: what is said of an earlier one does not end this one.
    number: u64,
    /// Attempts that failed in a row.
    failures: u32,
    /// No attempt is made before.
    rest_until: Option<Instant>,
    /// What the last attempt met.
    met: Option<(Trouble, String)>,
}

impl<C: Connect> SharedConnection<C> {
    /// Nothing is sent before the first call.
    pub fn new(connect: C) -> Self {
        let open = Open { connection: None, number: 0, failures: 0, rest_until: None, met: None };
        let waits = Backoff::exponential(Duration::from_millis(50)).max(Duration::from_secs(1));
        Self { connect, waits, open: Mutex::new(open), failed: AtomicU64::new(0) }
    }

    /// Sets the waits between attempts to connect that fail one after another. Default: 50 ms, doubling to 1 s.
    #[must_use]
    pub fn waits(mut self, waits: Backoff) -> Self {
        self.waits = waits;
        self
    }

    /// Makes a call, after connecting where that is needed. Its first poll has to send it, so that calls keep
    /// their order.
    ///
    /// # Errors
    ///
    /// What connecting or the call has failed with, [classified](Connect::classify).
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is sent, nothing is; dropped later, the call may have its effect.
    pub async fn call<T, F>(&self, call: impl FnOnce(C::Connection) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, C::Error>>,
    {
        let failed = self.failed.load(Ordering::Acquire);
        // The place in the queue is taken by the first poll, whatever is left of the task's budget, and so is the
        // one behind it.
        let mut open = unconstrained(self.open.lock()).await;
        let connection = match &open.connection {
            Some(connection) => connection.clone(),
            None => self.connect(&mut open, failed).await?,
        };
        let number = open.number;
        let mut answer = pin!(call(connection));
        let sent = poll!(unconstrained(answer.as_mut()));
        drop(open);
        let answer = match sent {
            Poll::Ready(answer) => answer,
            // It may still wait for its turn in the client. When that comes it is sent, also at the end of a budget: put off, it
            // would be overtaken by the next.
            Poll::Pending => unconstrained(answer).await,
        };
        if answer.as_ref().is_err_and(|error| self.connect.is_lost(error)) {
            let mut open = self.open.lock().await;
            if open.number == number {
                open.connection = None;
            }
        }
        answer.map_err(|error| self.connect.classify(error))
    }

    /// Lets go of the connection, for whoever says goodbye to the server. Calls that use it go on; the next one connects
    /// again.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost by dropping it.
    pub async fn release(&self) -> Option<C::Connection> {
        self.open.lock().await.connection.take()
    }

    /// Connects, unless another call has tried that since `failed` was counted.
    async fn connect(
        &self,
        open: &mut MutexGuard<'_, Open<C::Connection>>,
        failed: u64,
    ) -> Result<C::Connection, Failure> {
        if self.failed.load(Ordering::Acquire) != failed
            && let Some((trouble, text)) = &open.met
        {
            return Err(Failure::because(*trouble, text.as_str()));
        }
        if let Some(until) = open.rest_until {
            sleep_until(until).await;
        }
        match self.connect.connect().await {
            Ok(connection) => {
                (open.failures, open.rest_until) = (0, None);
                open.number += 1;
                Ok(open.connection.insert(connection).clone())
            }
            Err(error) => {
                let failure = self.connect.classify(error);
                open.rest_until = Some(Instant::now() + self.waits.delay(open.failures));
                open.failures = open.failures.saturating_add(1);
                open.met = Some((failure.trouble(), failure.text()));
                self.failed.fetch_add(1, Ordering::Release);
                Err(failure)
            }
        }
    }
}

impl<C: Connect> fmt::Debug for SharedConnection<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedConnection").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
