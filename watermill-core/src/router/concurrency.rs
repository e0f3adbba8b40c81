//! [`Concurrency`]: how many messages of a handler run at once.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    num::NonZeroUsize,
};

use super::sink::Sink;
use crate::{Message, Window, delivery::Token, subscriber::Ordering};

/// How many messages of a handler run at once, and in what order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Concurrency {
    /// One at a time in each ordering scope, at most so many scopes at once.
    Scopes(NonZeroUsize),
    /// So many at once, each a scope of its own: what scopes are where there is no order.
    Each(NonZeroUsize),
    /// So many at once, each on a task of its own, in any order.
    Unordered(NonZeroUsize),
    /// So many at once, each on a task of its own, those of one key one after another.
    Keyed(NonZeroUsize),
    /// So many waiting in one batch.
    Batch(NonZeroUsize),
}

/// Scopes in parallel unless told otherwise: enough for the partitions of a usual topic.
const SCOPES: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");

impl Concurrency {
    /// What it comes to with a subscriber that keeps this much order.
    pub(super) fn with(self, ordering: Ordering) -> Self {
        match (self, ordering) {
            (Self::Scopes(n), Ordering::None) => Self::Each(n),
            (Self::Scopes(_), Ordering::Total) | (Self::Keyed(NonZeroUsize::MIN), _) => {
                Self::Scopes(NonZeroUsize::MIN)
            }
            (Self::Unordered(NonZeroUsize::MIN), _) => Self::Each(NonZeroUsize::MIN),
            (other, _) => other,
        }
    }

    /// Whether one lane, without a table of lanes, is all it takes.
    pub(super) fn is_sequential(self) -> bool {
        self.lanes_max() == 1 && !self.is_batch()
    }

    /// Whether handlers run as tasks of their own, on any thread.
    pub(super) fn spawns(self) -> bool {
        matches!(self, Self::Unordered(_) | Self::Keyed(_))
    }

    pub(super) fn is_batch(self) -> bool {
        matches!(self, Self::Batch(_))
    }

    /// How many outputs of a lane may be on their way while it handles the next message, of which `wanted` were asked for:
    /// none where a lane does not serve one message after another.
    pub(super) fn pipeline(self, sink: &Sink, wanted: usize) -> usize {
        match self {
            Self::Scopes(_) | Self::Keyed(_) => sink.pipeline(wanted),
            Self::Each(_) | Self::Unordered(_) | Self::Batch(_) => 0,
        }
    }

    /// How many lanes are at work at the most.
    pub(super) fn lanes_max(self) -> usize {
        match self {
            Self::Scopes(n) | Self::Each(n) | Self::Unordered(n) | Self::Keyed(n) | Self::Batch(n) => n.get(),
        }
    }

    /// How many deliveries may wait for a busy lane while one for another lane is looked for. A subscription
    /// that obeys its window hands out more than one for a lane only where lanes are keys.
    pub(super) fn ahead_max(self) -> usize {
        self.lanes_max()
    }

    /// What to ask the subscription for: what can be handled, and not what could lie here until then. `pipeline`
    /// is how many outputs may be on their way.
    pub(super) fn window(self, ordering: Ordering, pipeline: usize) -> Window {
        let plus = |n: NonZeroUsize, more: usize| n.saturating_add(more);
        match self {
            Self::Scopes(n) => Window::ONE.with_total(plus(n, pipeline)),
            // Keys that are busy are looked past, as far as the next lane's message may be behind them.
            Self::Keyed(n) => {
                let ahead = plus(n, self.ahead_max());
                Window::ordered(ahead).with_total(plus(ahead, pipeline))
            }
            Self::Batch(n) if ordering != Ordering::None => Window::ordered(n).with_total(n),
            Self::Each(n) | Self::Unordered(n) | Self::Batch(n) => Window::unordered(n).with_total(n),
        }
    }

    /// Which lane a delivery belongs to; `None` when any will do. The message is looked at where its key matters and nowhere
    /// else: one that came from a broker is not read before somebody looks.
    #[inline]
    pub(super) fn lane(self, message: &Message, token: Token) -> Option<u64> {
        match self {
            Self::Scopes(_) => Some(token.scope),
            Self::Each(_) | Self::Unordered(_) | Self::Batch(_) => None,
            Self::Keyed(n) => {
                let lane = match message.key() {
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{MessageId, Metadata, message::Record};

    fn of(n: usize) -> NonZeroUsize {
        NonZeroUsize::new(n).unwrap()
    }

    /// A record that nobody is to look into.
    struct Sealed;

    impl Record for Sealed {
        fn payload(&self) -> &[u8] {
            b"payload"
        }

        fn read(&self) -> (MessageId, Option<Bytes>, Metadata) {
            panic!("it was read")
        }
    }

    #[test]
    fn a_lane_that_does_not_depend_on_the_key_is_found_without_reading_the_message() {
        let token = Token { scope: 7, position: 1, delivery: 1 };
        let lane = |concurrency: Concurrency| concurrency.lane(&Message::from_record(Sealed), token);
        assert_eq!(lane(Concurrency::default()), Some(7));
        for unordered in [Concurrency::Each(of(8)), Concurrency::Unordered(of(8)), Concurrency::Batch(of(8))]
        {
            assert_eq!(lane(unordered), None);
        }
    }

    #[test]
    fn a_window_asks_for_what_can_be_handled_and_no_more() {
        let asked = |concurrency: Concurrency, ordering| {
            let window = concurrency.with(ordering).window(ordering, 1_000);
            (window.per_scope(), window.total(), window.is_ordered())
        };
        let default = Concurrency::default();
        assert_eq!(asked(default, Ordering::Total), (1, 1_001, true));
        assert_eq!(asked(default, Ordering::Scoped), (1, 1_064, true));
        assert_eq!(asked(default, Ordering::None), (64, 64, false));
        assert_eq!(asked(Concurrency::Unordered(of(8)), Ordering::Total), (8, 8, false));
        assert_eq!(asked(Concurrency::Keyed(of(8)), Ordering::Scoped), (16, 1_016, true));
        assert_eq!(asked(Concurrency::Keyed(of(1)), Ordering::Scoped), (1, 1_001, true));
        assert_eq!(asked(Concurrency::Batch(of(100)), Ordering::Total), (100, 100, true));
        assert_eq!(asked(Concurrency::Batch(of(100)), Ordering::None), (100, 100, false));
    }
}
