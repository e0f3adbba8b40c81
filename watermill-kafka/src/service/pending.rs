//! What is under way with a client's subscriptions.

use std::{collections::HashMap, ops::Range, sync::Arc};

use tokio::{sync::oneshot, time::Instant};
use watermill_core::backend::Failure;

use crate::{group::Subscribed, ledger::Reread, settle::Shared};

/// Partitions of a subscription without a group that are to be read.
pub(super) struct Unread {
    pub(super) subscribed: Subscribed,
    pub(super) partitions: Range<i32>,
}

/// Partitions of a subscription that are to be read again.
pub(super) struct Rewinding {
    pub(super) shared: Arc<Shared>,
    pub(super) partitions: HashMap<i32, Reread>,
    pub(super) _done: oneshot::Sender<()>,
}

/// A subscription on its way out.
pub(super) struct Unsubscribing {
    pub(super) shared: Arc<Shared>,
    pub(super) done: oneshot::Sender<Result<(), Failure>>,
    /// After this it is not waited for any longer.
    pub(super) deadline: Instant,
    /// How the last commit went; `None` while dead letters are waited for.
    pub(super) committed: Option<Result<(), Failure>>,
}

/// A subscription that has left.
pub(super) struct Left {
    pub(super) done: oneshot::Sender<Result<(), Failure>>,
    pub(super) committed: Result<(), Failure>,
    /// After this it is told, gone or not.
    pub(super) deadline: Instant,
}

impl Left {
    pub(super) fn tell(self) {
        // Nobody waits when the subscription was dropped.
        let _ = self.done.send(self.committed);
    }
}
