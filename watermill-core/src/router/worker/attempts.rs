//! [`Attempts`]: how often messages were delivered and failed, where the backend does not count.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::MessageId;

/// Counts in the memory of this process, by message id: good enough for waits that grow, and for
/// [`max_deliveries`](crate::FailurePolicy::max_deliveries) as long as the process lives. At the bound the
/// message that failed first is forgotten, and begins anew.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<Table>);

/// How many messages are remembered.
const IDS_MAX: usize = 10_000;

#[derive(Debug, Default)]
struct Table {
    failed: HashMap<MessageId, Failed>,
    /// The ids in the order in which they came, each with its number. Those that were forgotten since are
    /// passed over.
    order: VecDeque<(MessageId, u64)>,
    next: u64,
}

#[derive(Debug)]
struct Failed {
    deliveries: u32,
    number: u64,
}

impl Attempts {
    /// How many deliveries of the message have failed. `id` is not asked for while nothing has.
    pub(super) fn failed<'m>(&self, id: impl FnOnce() -> &'m MessageId) -> u32 {
        let table = self.lock();
        if table.failed.is_empty() {
            return 0;
        }
        table.failed.get(id()).map_or(0, |failed| failed.deliveries)
    }

    /// Takes note that delivery number `attempt` has failed.
    pub(super) fn note(&self, id: &MessageId, attempt: u32) {
        self.lock().note(id, attempt);
    }

    /// Forgets a message that will not come again.
    pub(super) fn forget(&self, id: &MessageId) {
        self.lock().failed.remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn note(&mut self, id: &MessageId, attempt: u32) {
        if let Some(known) = self.failed.get_mut(id) {
            known.deliveries = attempt;
            return;
        }
        let number = self.next;
        self.next += 1;
        self.failed.insert(id.clone(), Failed { deliveries: attempt, number });
        self.order.push_back((id.clone(), number));
        // Also what was forgotten meanwhile takes room in the order: twice the bound at the most.
        while self.failed.len() > IDS_MAX || self.order.len() > 2 * IDS_MAX {
            let Some((oldest, number)) = self.order.pop_front() else { return };
            if self.failed.get(&*oldest).is_some_and(|failed| failed.number == number) {
                self.failed.remove(&*oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> MessageId {
        n.to_string().into()
    }

    #[test]
    fn what_was_acked_begins_anew() {
        let attempts = Attempts::default();
        attempts.note(&id(1), 1);
        attempts.note(&id(1), 2);
        assert_eq!(attempts.failed(|| Box::leak(Box::new(id(1)))), 2);
        attempts.forget(&id(1));
        assert_eq!(attempts.failed(|| unreachable!("nothing has failed")), 0);
    }

    #[test]
    fn the_oldest_is_forgotten_at_the_bound_and_memory_does_not_grow() {
        let attempts = Attempts::default();
        for n in 0..=IDS_MAX {
            attempts.note(&id(n), 1);
        }
        let known = |n: usize| attempts.lock().failed.contains_key(&id(n));
        assert!(!known(0) && known(1) && known(IDS_MAX));
        for n in 0..5 * IDS_MAX {
            attempts.note(&id(n), 1);
            attempts.forget(&id(n));
        }
        assert!(attempts.lock().order.len() <= 2 * IDS_MAX);
    }
}
