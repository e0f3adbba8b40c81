//! [`Concurrency`]: how many messages of a handler run at once.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    num::NonZeroUsize,
};

use crate::{Delivery, Window, subscriber::Ordering};

/// How many messages of a handler run at once, and in what order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Concurrency {
    /// One at a time in each ordering scope, at most so many scopes at once.
    Scopes(NonZeroUsize),
    /// So many at once, in any order.
    Unordered(NonZeroUsize),
    /// So many at once, those of one key one after another.
    Keyed(NonZeroUsize),
    /// So many waiting in one batch.
    Batch(NonZeroUsize),
}

/// Scopes in parallel unless told otherwise: enough for the partitions of a usual topic.
const SCOPES: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");

/// How many deliveries per key lane may be fetched, so that a lane rarely waits for the next.
const AHEAD_PER_LANE: usize = 8;

impl Concurrency {
    /// Whether one lane, without a table of lanes, is all it takes.
    pub(super) fn is_sequential(self, ordering: Ordering) -> bool {
        match self {
            Self::Scopes(limit) => limit.get() == 1 || ordering == Ordering::Total,
            Self::Unordered(limit) | Self::Keyed(limit) => limit.get() == 1,
            Self::Batch(_) => false,
        }
    }

    /// Whether handlers run as tasks of their own, on any thread.
    pub(super) fn spawns(self) -> bool {
        matches!(self, Self::Unordered(limit) | Self::Keyed(limit) if limit.get() > 1)
    }

    /// How many lanes there are at the most.
    pub(super) fn lanes_max(self) -> usize {
        match self {
            Self::Scopes(n) | Self::Unordered(n) | Self::Keyed(n) | Self::Batch(n) => n.get(),
        }
    }

    /// What to ask the subscription for. `pipeline` is how many outputs may be on their way.
    pub(super) fn window(self, pipeline: usize) -> Window {
        let ahead = |n: usize| NonZeroUsize::MIN.saturating_add(n.saturating_sub(1).saturating_add(pipeline));
        match self {
            Self::Scopes(_) => Window::ordered(ahead(1)),
            Self::Unordered(n) => Window::unordered(n),
            Self::Keyed(n) => Window::ordered(ahead(n.get().saturating_mul(AHEAD_PER_LANE))),
            Self::Batch(n) => Window::ordered(n),
        }
    }

    /// How many deliveries may wait for a busy lane while other lanes are looked for.
    pub(super) fn waiting_max(self) -> usize {
        match self {
            Self::Keyed(n) => n.get().saturating_mul(AHEAD_PER_LANE),
            Self::Scopes(_) | Self::Unordered(_) | Self::Batch(_) => 0,
        }
    }

    /// Which lane a delivery belongs to; `None` when any will do.
    pub(super) fn lane(self, delivery: &Delivery) -> Option<u64> {
        match self {
            Self::Scopes(_) => Some(delivery.info().token().scope),
            Self::Unordered(_) | Self::Batch(_) => None,
            Self::Keyed(n) => {
                let token = delivery.info().token();
                let lane = match delivery.key() {
                    Some(key) => {
                        let mut hasher = DefaultHasher::new();
                        key.hash(&mut hasher);
                        hasher.finish()
                    }
                    // Without a key there is no order to keep: spread them.
                    None => token.position,
                };
                Some(lane % n.get() as u64)
            }
        }
    }
}

impl Default for Concurrency {
    fn default() -> Self {
        Self::Scopes(SCOPES)
    }
}
