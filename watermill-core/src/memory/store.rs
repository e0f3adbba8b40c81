//! [`Store`]: where the records of a group lie, from publishing to settling.

use super::marshaler::Record;

/// Records by slot. A record does not move while it waits, is handed out and comes back: the queues
/// of a group hold slots, because moving a few hundred bytes from queue to queue is most of what a
/// message would cost. Freed slots are used again, so a group in steady state allocates nothing.
#[derive(Default)]
pub(super) struct Store {
    slots: Vec<Option<Record>>,
    free: Vec<u32>,
}

impl Store {
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    #[inline]
    pub(super) fn insert(&mut self, record: Record) -> u32 {
        match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(record);
                slot
            }
            None => {
                let slot = u32::try_from(self.slots.len()).expect("memory ends before 2^32 records");
                self.slots.push(Some(record));
                slot
            }
        }
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Record> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// Moves a record into `into`.
    #[inline]
    pub(super) fn remove(&mut self, slot: u32, into: &mut Option<Record>) {
        if let Some(record @ Some(_)) = self.slots.get_mut(slot as usize) {
            *into = record.take();
            self.free.push(slot);
        }
    }
}
