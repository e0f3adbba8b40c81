//! [`Job`]: a message in hand, how far it is, and how it ends.

use std::{pin::Pin, time::Duration};

use futures::future::BoxFuture;
use tokio::time::Sleep;

use crate::{Message, Settlement, dead_letter::DeadLetterError};

/// A message in hand.
pub(super) struct Job {
    pub(super) settlement: Settlement,
    /// For retries and dead letters; only kept where the policy can need it, and boxed because jobs
    /// are moved more often than copied.
    pub(super) copy: Option<Box<Message>>,
    /// Tries in place so far.
    pub(super) tries: u32,
    /// Which delivery this is, by the backend's count.
    pub(super) attempt: u32,
}

/// What happens to the message that is being handled.
pub(super) enum Stage {
    /// There is none.
    Idle,
    /// The handler runs.
    Calling(Job),
    /// A failed try waits for the next.
    Waiting(Job, Pin<Box<Sleep>>),
    /// The next try is due: it needs the service.
    RetryDue(Job),
    /// It is on its way to its dead-letter topic.
    DeadLettering(Job, BoxFuture<'static, Result<(), DeadLetterError>>),
}

/// How a job ends.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Ack,
    DeadLettered,
    Dropped,
    Rejected(String),
    Nack(Duration),
}
