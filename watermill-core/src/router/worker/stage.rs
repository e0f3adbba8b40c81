//! [`Stage`]: what a lane is doing.

use std::time::Duration;

use futures::future::BoxFuture;

use super::job::Job;
use crate::{Outputs, dead_letter::DeadLetterError, error::BoxError};

/// What a lane is doing, apart from the outputs that are on their way and what waits behind. Each variant
/// owns the messages that it is about, so that no message is in two of them.
pub(super) enum Stage {
    /// Nothing: the next may begin, if the pipeline has room.
    Idle,
    /// The newest message in the pipeline goes back or fails when its turn comes. Until then nothing begins.
    Draining,
    /// The handler runs.
    Calling(Job, Recalled),
    /// A failed try waits for the next.
    RetryWait(Job, BoxFuture<'static, ()>),
    /// The next try is due: it needs the service.
    RetryDue(Job),
    /// A message is on its way to its dead-letter topic.
    DeadLettering(Job, Recalled, BoxFuture<'static, Result<(), DeadLetterError>>),
    /// Its outputs are published together with those of its batch; they are here until they are fetched.
    Grouped(Job, Outputs),
    /// Messages that go back when the wait is over, in order, because the backend cannot wait.
    NackWait(Vec<Job>, BoxFuture<'static, ()>),
}

/// What has become of an earlier message while a later one was being handled; `None` as a rule. Otherwise the
/// later one goes back when it ends, and then it is the earlier one's turn.
pub(super) type Recalled = Option<Box<Earlier>>;

/// An earlier message whose outputs were not accepted.
pub(super) enum Earlier {
    /// It has gone back.
    GoneBack,
    /// It is the policy's, in its place.
    Failed(Job, BoxError),
    /// It goes back after a delay, and those after it with it.
    GoesBack(Vec<Job>, Duration),
}

/// Whose code runs for the job in hand.
#[derive(Clone, Copy, Debug)]
pub(super) enum Polled {
    Handler,
    /// The call that publishes its outputs is made, and polled for the first time.
    Publisher,
}
