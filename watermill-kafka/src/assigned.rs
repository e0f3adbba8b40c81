//! [`Assigned`]: the partitions of a topic that are ours, and whose turn it is.

use std::sync::Arc;

use rdkafka::error::KafkaError;
use tokio::time::Instant;
use watermill_core::Window;

use crate::{
    ledger::{Handed, Ledger, Offer},
    queue::{Queue, Taken},
};

/// How many records of one partition are handed out before another has its turn.
const TURN: u32 = 64;

/// The partitions of one subscription.
#[derive(Default)]
pub(crate) struct Assigned {
    /// By partition; `None` for those that are not ours.
    parts: Vec<Option<Part>>,
    /// The numbers of those that are ours.
    ours: Vec<usize>,
    /// How many deliveries are outstanding, of all partitions together.
    outstanding: usize,
    /// Whose turn it is, as a place in `ours`, and how much of the turn is left.
    turn: usize,
    left: u32,
}

/// A partition that is ours.
pub(crate) struct Part {
    /// Tells assignments of a partition apart: the word of an earlier one does not count.
    pub(crate) scope: u64,
    pub(crate) queue: Arc<Queue>,
    pub(crate) ledger: Ledger,
    /// A record before those that were read, which waits for a ledger of its own.
    back: Option<Taken>,
}

/// A partition whose log has gone back, and what was known of it before.
pub(crate) struct Back {
    /// The scope and the ledger that are over.
    pub(crate) scope: u64,
    pub(crate) ledger: Ledger,
    /// Where reading goes on.
    pub(crate) to: i64,
}

/// What a look at the partitions has found.
pub(crate) enum Turn {
    /// A record, and the scope it is in.
    Handed(u64, Handed),
    Failed(KafkaError),
    /// A record of this partition that lies before what was read; see [`Assigned::begin_anew`].
    Back(i32),
    /// Nothing, before this time or before something happens.
    Nothing(Option<Instant>),
}

impl Assigned {
    pub(crate) fn assign(&mut self, partition: i32, part: Part) {
        let Ok(at) = usize::try_from(partition) else { return };
        if self.parts.len() <= at {
            self.parts.resize_with(at + 1, || None);
        }
        match self.parts[at].replace(part) {
            Some(before) => self.outstanding -= before.ledger.outstanding(),
            None => self.ours.push(at),
        }
    }

    pub(crate) fn revoke(&mut self, partition: i32) -> Option<Part> {
        let at = usize::try_from(partition).ok()?;
        let part = self.parts.get_mut(at)?.take()?;
        self.ours.retain(|ours| *ours != at);
        self.outstanding -= part.ledger.outstanding();
        Some(part)
    }

    /// Gives a partition whose log has gone back another ledger, and with it another scope.
    pub(crate) fn begin_anew(&mut self, partition: i32, scope: u64) -> Option<Back> {
        let part = self.partition(partition)?;
        let to = part.back.as_ref()?.offset;
        let scope = std::mem::replace(&mut part.scope, scope);
        let ledger = std::mem::replace(&mut part.ledger, Ledger::beginning(to));
        self.outstanding -= ledger.outstanding();
        Some(Back { scope, ledger, to })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ours.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (i32, &Part)> {
        self.ours.iter().filter_map(|at| Some((i32::try_from(*at).ok()?, self.parts[*at].as_ref()?)))
    }

    pub(crate) fn partition(&mut self, partition: i32) -> Option<&mut Part> {
        self.parts.get_mut(usize::try_from(partition).ok()?)?.as_mut()
    }

    /// How many deliveries are outstanding, of all partitions together.
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// So many of them were settled.
    #[inline]
    pub(crate) fn settled(&mut self, deliveries: usize) {
        self.outstanding -= deliveries;
    }

    /// The partition in the assignment that the scope names.
    #[inline]
    pub(crate) fn scope(&mut self, scope: u64) -> Option<&mut Part> {
        self.partition(scope::partition(scope)).filter(|part| part.scope == scope)
    }

    /// The next record: of the partition whose turn it is, or else of the first one that has something.
    #[inline]
    pub(crate) fn next(&mut self, window: Window, max_ahead: usize) -> Turn {
        // What is settled wakes the stream.
        if self.outstanding >= window.total() {
            return Turn::Nothing(None);
        }
        let mut due: Option<Instant> = None;
        for _ in 0..=self.ours.len() {
            if self.left == 0 || self.turn >= self.ours.len() {
                self.pass_turn();
            }
            let Some(at) = self.ours.get(self.turn) else { break };
            let Some(part) = &mut self.parts[*at] else { break };
            let taken = match part.ledger.offer(window, max_ahead, Instant::now) {
                Offer::Redelivery(handed) => Some(Ok(handed)),
                Offer::Fresh => part.take(),
                Offer::Nothing(at) => {
                    due = due.into_iter().chain(at).min();
                    None
                }
            };
            match taken {
                Some(Ok(handed)) => {
                    self.left -= 1;
                    self.outstanding += 1;
                    return Turn::Handed(part.scope, handed);
                }
                Some(Err(Untaken::Failed(error))) => return Turn::Failed(error),
                Some(Err(Untaken::Back)) => return Turn::Back(scope::partition(part.scope)),
                None => self.pass_turn(),
            }
        }
        // In an unordered window a partition that waits for nothing but records may hold nacked ones.
        let later = self.iter().filter_map(|(_, part)| part.ledger.due()).min();
        Turn::Nothing(due.into_iter().chain(later).min())
    }

    fn pass_turn(&mut self) {
        self.turn = if self.turn + 1 < self.ours.len() { self.turn + 1 } else { 0 };
        self.left = TURN;
    }
}

/// Why a partition has handed nothing out.
enum Untaken {
    Failed(KafkaError),
    Back,
}

impl Part {
    pub(crate) fn new(scope: u64, queue: Arc<Queue>, ledger: Ledger) -> Self {
        Self { scope, queue, ledger, back: None }
    }

    /// Takes the next record.
    #[inline]
    fn take(&mut self) -> Option<Result<Handed, Untaken>> {
        let taken = match self.back.take() {
            Some(taken) => taken,
            None => match self.queue.take()? {
                Ok(taken) => taken,
                Err(error) => return Some(Err(Untaken::Failed(error))),
            },
        };
        let Taken { offset, timestamp, message } = &taken;
        let Some(attempt) = self.ledger.hand_out(*offset, *timestamp, message) else {
            self.back = Some(taken);
            return Some(Err(Untaken::Back));
        };
        let Taken { offset, timestamp, message } = taken;
        Some(Ok(Handed { offset, attempt, delivery: 1, timestamp, message }))
    }
}

/// An ordering scope is a partition in one of its assignments.
pub(crate) mod scope {
    pub(crate) fn new(partition: i32, assignment: u32) -> u64 {
        u64::from(assignment) << 32 | u64::from(partition.cast_unsigned())
    }

    #[inline]
    pub(crate) fn partition(scope: u64) -> i32 {
        (scope as u32).cast_signed()
    }
}
