//! [`Published`]: what the destination has, and what is wrong with it.

use super::table::{Id, RowState, Table};

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Published {
    /// How often each row came.
    times: Vec<u8>,
    /// A row that came before one that it is behind.
    pub(super) out_of_order: Option<Id>,
    /// A row that came and was not committed.
    pub(super) invented: Option<Id>,
}

impl Published {
    /// A row comes. Those before it have come unless they are `excused`.
    pub(super) fn publish(&mut self, table: &Table, id: Id, excused: impl Fn(Id) -> bool) {
        self.times.resize(table.rows.len(), 0);
        if table.rows[id].state != RowState::Committed {
            self.invented.get_or_insert(id);
        }
        let is_missing = |before: Id| {
            table.rows[before].state == RowState::Committed && !self.has(before) && !excused(before)
        };
        if !self.has(id) && table.before(id).any(is_missing) {
            self.out_of_order.get_or_insert(id);
        }
        self.times[id] += 1;
    }

    pub(super) fn has(&self, id: Id) -> bool {
        self.times.get(id).is_some_and(|times| *times > 0)
    }

    /// How many came that had come before.
    pub(super) fn twice(&self) -> usize {
        self.times.iter().map(|times| usize::from(times.saturating_sub(1))).sum()
    }
}
