//! [`TryTimer`]: is told how long the tries of a handler take.

use std::{fmt, sync::Arc, time::Duration};

use crate::HandlerInfo;

/// Is told how long each try of a handler took: what figures of latency are made from.
///
/// A router takes those of its handlers with [`Router::time_tries`](crate::Router::time_tries). A layer can measure the same from
/// inside of other layers; it has a future of its own for it, which costs each message as much again as the two looks at the clock.
///
/// It is called on the handler's worker, between two messages: it neither blocks nor panics.
pub trait TryTimer: Send + Sync + 'static {
    /// A try has ended. It took from the call of the service, the outermost layer included, until that had an answer,
    /// so that publishing outputs is no part of it; one that panicked has not succeeded, nor has one whose message a layer
    /// has dead-lettered. A try that was given up half way, at the end of a router, is not told.
    ///
    /// In a [batch](crate::Handler::batch) each message has a try, which begins before its batch is full: the wait for others,
    /// `linger` at the most, is part of it.
    ///
    /// Messages that follow each other without a wait share a look at the clock: the time that the router takes between them, a
    /// microsecond or less, is counted with the later one.
    fn ended(&self, took: Duration, has_succeeded: bool);
}

impl<T: TryTimer + ?Sized> TryTimer for Arc<T> {
    fn ended(&self, took: Duration, has_succeeded: bool) {
        (**self).ended(took, has_succeeded);
    }
}

/// Makes the timer of each handler.
#[derive(Clone)]
pub(super) struct TryTimers(Arc<Make>);

/// Of a box, whose contents are where it points; in an `Arc` they have to be found behind its counts each time.
type Make = dyn Fn(&HandlerInfo) -> Box<dyn TryTimer> + Send + Sync;

impl TryTimers {
    pub(super) fn new<T: TryTimer>(make: impl Fn(&HandlerInfo) -> T + Send + Sync + 'static) -> Self {
        Self(Arc::new(move |handler| Box::new(make(handler))))
    }

    pub(super) fn of(&self, handler: &HandlerInfo) -> Box<dyn TryTimer> {
        (self.0)(handler)
    }
}

impl fmt::Debug for TryTimers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TryTimers")
    }
}
