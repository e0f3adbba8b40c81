//! [`Outcome`], what becomes of a delivery, and [`Settle`], how a backend is told.

use std::{any::Any, time::Duration};

use tokio::sync::oneshot;

use crate::error::SettleError;

/// Names one delivery of a subscription to the backend that made it. Within one [`Origin`](super::Origin) no token is used
/// twice: a late word on a delivery must never be taken for one on another.
///
/// A place and a count, so that a backend finds its record without a table of its own: a Kafka partition and
/// offset, a log table and an offset, a queue and a sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token {
    /// The ordering scope the delivery belongs to.
    pub scope: u64,
    /// Its place in that scope; messages behind it have larger ones.
    pub position: u64,
    /// Tells the deliveries of one place apart: how often it has been handed out.
    pub delivery: u32,
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Done: it is not delivered to this group again.
    Ack,
    /// Not done: it is delivered again, after `delay`, before any later message of its scope that
    /// was not handed out yet.
    Nack {
        /// Zero means at once.
        delay: Duration,
    },
    /// It cannot be processed: the backend puts it on its dead-letter topic if it has one, and
    /// otherwise drops it with an error in the log.
    Reject {
        /// Why, for whoever looks at the dead letter.
        reason: String,
    },
}

/// How a backend turns outcomes into commits, deadline changes and row updates.
pub trait Settle: Any + Send + Sync {
    /// Takes note of an outcome. Obligations:
    ///
    /// 1. It never blocks and never panics: it is called from `Drop` and from any thread.
    /// 2. The first outcome of a delivery counts. One for a token that is not outstanding (settled
    ///    already, revoked, the subscription is gone) is ignored.
    /// 3. A receipt is completed once the backend has recorded the outcome, or knows it cannot: of an ack, a
    ///    nack and a reject alike. Where a nack needs no record to take effect, it is complete at once.
    fn settle(&self, token: Token, outcome: Outcome, receipt: Option<Receipt>);

    /// The handler of a delivery has finished, and only what it published is waited for: it goes on
    /// counting against [`Window::total`](crate::Window::total), and not any more against
    /// [`Window::per_scope`](crate::Window::per_scope). Never blocks; ignored for what is not outstanding.
    fn handled(&self, token: Token);
}

/// Whoever waits for a confirmation; a backend completes it. Dropped, the wait ends with
/// [`SettleErrorKind::Unknown`](crate::error::SettleErrorKind::Unknown).
#[derive(Debug)]
pub struct Receipt(oneshot::Sender<Result<(), SettleError>>);

impl Receipt {
    /// A receipt, and the wait that it ends; for tests of a backend.
    pub fn new() -> (Self, oneshot::Receiver<Result<(), SettleError>>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// Says how it ended; nobody may be listening any more.
    pub fn complete(self, result: Result<(), SettleError>) {
        let _ = self.0.send(result);
    }
}
