//! Copies of a ledger, told apart by what is in them: what a model's states are made of. Nobody waits for receipts there.

use std::hash::{Hash, Hasher};

use super::*;

impl Clone for LogLedger {
    fn clone(&self) -> Self {
        let Self { first, handed, out, handled, window, position, read, unclear_up_to, .. } = *self;
        let Self { fresh_bytes, fetch_rows, starved, stored_progress, read_to_the_end, limits, .. } = *self;
        let letter = |rejected: &Rejected| match rejected {
            Rejected::Kept(letter) => Rejected::Kept(letter.clone()),
            Rejected::Dropped(letter) => Rejected::Dropped(letter.clone()),
        };
        let Unsaved { acks, since, receipts, rejected, passed } = &self.unsaved;
        assert!(receipts.is_empty(), "somebody waits");
        Self {
            rows: self.rows.iter().map(Row::clone).collect(),
            first,
            handed,
            fresh_bytes,
            fetch_rows,
            starved,
            out,
            handled,
            nacked: self.nacked.clone(),
            window,
            position,
            read,
            inherited: self.inherited.clone(),
            unclear_up_to,
            unsaved: Unsaved {
                passed: passed.clone(),
                acks: *acks,
                since: *since,
                receipts: Receipts::default(),
                rejected: rejected.iter().map(letter).collect(),
            },
            stored_progress,
            read_to_the_end,
            held_back: self.held_back.clone(),
            recorder: self.recorder.clone(),
            limits,
        }
    }
}

impl Clone for Row {
    fn clone(&self) -> Self {
        Self { message: self.message.clone(), ..*self }
    }
}

impl PartialEq for LogLedger {
    fn eq(&self, other: &Self) -> bool {
        let of = |ledger: &Self| {
            let mut hasher = std::hash::DefaultHasher::new();
            ledger.hash(&mut hasher);
            hasher.finish()
        };
        of(self) == of(other)
    }
}

impl Eq for LogLedger {}

impl Hash for LogLedger {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.first, self.handed, self.out, self.handled, self.position, self.read).hash(state);
        (self.stored_progress, self.unclear_up_to).hash(state);
        for Row { position, message, attempts, out, handled, deliveries, .. } in &self.rows {
            (position, message.is_some(), attempts, out, handled, deliveries).hash(state);
        }
        (&self.nacked, &self.inherited.ahead, &self.inherited.attempts).hash(state);
        (self.unsaved.acks, self.unsaved.since).hash(state);
        self.unsaved.rejected.iter().filter_map(Rejected::kept).for_each(|letter| letter.offset.hash(state));
    }
}
