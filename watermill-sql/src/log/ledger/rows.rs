//! [`Rows`]: what was fetched, from the oldest row on that is not done.

use std::{collections::VecDeque, time::SystemTime};

use crate::{position::Position, stored::Stored};

/// Rows in the order of their positions, each with a sequence number of its own: it names the row in tokens, is
/// never used twice by a subscription, and so tells terms of ownership apart.
#[derive(Debug)]
pub(super) struct Rows {
    /// The sequence number of `rows[i]` is `first + i`.
    rows: VecDeque<Row>,
    first: u64,
    /// `rows[..handed]` have been handed out at least once, or need not be.
    handed: usize,
    /// What those that have not take in memory.
    fresh_bytes: usize,
}

#[derive(Debug)]
pub(super) struct Row {
    pub(super) position: Position,
    /// `None` once the row is done.
    pub(super) message: Option<Stored>,
    pub(super) published_at: Option<SystemTime>,
    /// How often it has been handed out.
    pub(super) attempts: u32,
    pub(super) out: bool,
    pub(super) handled: bool,
    /// How often this subscription has handed it out.
    pub(super) deliveries: u32,
}

impl Rows {
    pub(super) fn new() -> Self {
        Self { rows: VecDeque::new(), first: 1, handed: 0, fresh_bytes: 0 }
    }

    /// Adds a row, with its message unless it is done.
    pub(super) fn push(
        &mut self,
        position: Position,
        message: Option<Stored>,
        published_at: Option<SystemTime>,
        attempts: u32,
    ) {
        if message.is_none() && self.handed == self.rows.len() {
            self.handed += 1;
        }
        self.fresh_bytes += message.as_ref().map_or(0, Stored::bytes);
        self.rows.push_back(Row {
            position,
            message,
            published_at,
            attempts,
            out: false,
            handled: false,
            deliveries: 0,
        });
    }

    pub(super) fn get(&mut self, sequence: u64) -> Option<&mut Row> {
        let at = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        self.rows.get_mut(at)
    }

    /// The sequence number of the next row that was never handed out and is not done, which is handed out now.
    pub(super) fn next_fresh(&mut self) -> Option<u64> {
        while self.rows.get(self.handed)?.message.is_none() {
            self.handed += 1;
        }
        self.fresh_bytes -= self.rows[self.handed].message.as_ref().map_or(0, Stored::bytes);
        self.handed += 1;
        Some(self.first + self.handed as u64 - 1)
    }

    /// Forgets what is done from the front on. Returns up to where, if that is news.
    pub(super) fn pop_done(&mut self) -> Option<Position> {
        let mut up_to = None;
        while let Some(row) = self.rows.pop_front_if(|row| row.message.is_none()) {
            up_to = Some(row.position);
            self.first += 1;
            self.handed = self.handed.saturating_sub(1);
        }
        up_to
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.first += self.rows.len() as u64;
        self.rows.clear();
        (self.handed, self.fresh_bytes) = (0, 0);
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// How many wait that were never handed out.
    pub(super) fn fresh(&self) -> usize {
        self.rows.len() - self.handed
    }

    /// What those take in memory.
    pub(super) fn fresh_bytes(&self) -> usize {
        self.fresh_bytes
    }

    pub(super) fn oldest(&self) -> Option<&Row> {
        self.rows.front()
    }

    /// All, with their sequence numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Row)> {
        (self.first..).zip(&self.rows)
    }

    /// The same.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut Row)> {
        (self.first..).zip(&mut self.rows)
    }
}
