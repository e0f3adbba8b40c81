//! [`Relaying`]: writers, a table that keeps the lease, and relays that read, publish and record.

use std::{collections::BTreeMap, num::NonZeroUsize};

use tokio::time::Instant;
use watermill_core::{
    Window,
    backend::{Ledger as _, Offer},
    delivery::{Outcome, Token},
};

use super::{
    reading::{Ask, Reading, Rule},
    table::{Id, Plan, Table},
};
use crate::{
    SqlSubscriberConfig,
    log::{Claim, LeaseRow, Limits, LogLedger, Progress, VERSION},
    marshaler::Columns,
    position::Position,
    settle::Rejected,
    stored::{Store, Stored},
    topic::Tables,
};

/// The key whose messages the destination refuses for what they are.
pub(super) const REFUSED: u8 = 9;

/// What is explored, and how far.
pub(super) struct Relaying {
    pub(super) rule: Rule,
    pub(super) without: Option<Without>,
    pub(super) plans: Vec<Plan>,
    pub(super) relays: usize,
    /// How many messages may be published that the source has not recorded, and are read at a time.
    pub(super) batch: usize,
    /// How often a relay dies, a lease runs out that nobody renews, or an answer is lost.
    pub(super) breaks_max: u8,
    /// How often a relay gives its lease back.
    pub(super) stops_max: u8,
    /// How often a message is nacked.
    pub(super) nacks_max: u8,
    pub(super) surroundings: Surroundings,
}

/// A rule that is left out, to see that it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Without {
    /// Recording compares neither the token nor the position.
    Fencing,
    /// Nothing bounds what is published and not recorded.
    Bound,
    /// What is done behind the position is not kept.
    Progress,
    /// The position is that of the last message that is done, whatever is left before it.
    Contiguity,
    /// Dead letters are written before it is known whose the lease is.
    OneTransaction,
    /// Of a key, messages are published as they come to hand.
    Lanes,
}

pub(super) struct Surroundings {
    tables: Tables,
    config: SqlSubscriberConfig,
    now: Instant,
    message: Stored,
}

/// What the database keeps for the group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Database {
    pub(super) owner: Option<usize>,
    pub(super) token: i64,
    pub(super) has_run_out: bool,
    pub(super) is_disconnected: bool,
    pub(super) position: Position,
    pub(super) progress: String,
    pub(super) dead_letters: Vec<Id>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Relay {
    StandingBy,
    Active(Box<Active>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Active {
    pub(super) token: i64,
    /// Where it knows the group to be.
    pub(super) position: Position,
    reading: Reading,
    pub(super) ledger: LogLedger,
    /// What was handed out and is not settled.
    pub(super) in_hand: BTreeMap<Id, (u64, u32)>,
}

impl Relaying {
    pub(super) fn new(rule: Rule, plans: &[&[u8]]) -> Self {
        let columns = Columns { uuid: b"id", payload: b"", metadata: None };
        Self {
            rule,
            without: None,
            plans: plans.iter().map(|plan| plan.to_vec()).collect(),
            relays: 1,
            batch: 2,
            breaks_max: 0,
            stops_max: 0,
            nacks_max: 0,
            surroundings: Surroundings {
                tables: Tables::new::<sqlx::Postgres>("outbox").expect("a good name"),
                config: SqlSubscriberConfig::default(),
                now: Instant::now(),
                message: Store::default().keep(columns).expect("a good message"),
            },
        }
    }

    fn lacks(&self, rule: Without) -> bool {
        self.without == Some(rule)
    }

    /// The lease, if this relay may have it now.
    pub(super) fn claim(&self, database: &mut Database, relay: usize) -> Option<Active> {
        let Surroundings { tables, config, .. } = &self.surroundings;
        let row = LeaseRow {
            version: VERSION,
            owner: database.owner.map(|owner| owner.to_string()),
            token: database.token,
            remaining_ms: if database.has_run_out { 0 } else { 1 },
            lease_ms: None,
            is_disconnected: database.is_disconnected,
            progress: database.progress.clone(),
        };
        let owner = &relay.to_string();
        if row.held(&Claim { tables, owner, config }).is_some() {
            return None;
        }
        database.token += 1;
        (database.owner, database.has_run_out, database.is_disconnected) = (Some(relay), false, false);
        let limits =
            Limits { batch_size: self.batch, batch_bytes: 1_000, max_ahead: 100, dead_letters: true };
        let mut ledger = LogLedger::new(limits);
        ledger.set_window(Window::ordered(NonZeroUsize::new(self.batch + 1).expect("it is not zero")));
        ledger.begin(database.position, Progress::decode(&row.progress, database.position), None);
        let (reading, in_hand) = (Reading::new(self.rule), BTreeMap::new());
        Some(Active { token: database.token, position: database.position, reading, ledger, in_hand })
    }

    pub(super) fn read(&self, table: &Table, active: &mut Active) {
        if !active.ledger.wants_more() {
            return;
        }
        let Surroundings { now, message, .. } = &self.surroundings;
        let (after, limit) = (active.ledger.read_up_to(), self.batch);
        let ask = Ask { rule: self.rule, table, plans: &self.plans, after, limit, now: *now };
        for id in active.reading.step(&ask) {
            active.ledger.push(self.rule.position(table, id), message.clone(), None);
        }
        self.hand_out(active);
    }

    fn hand_out(&self, active: &mut Active) {
        while let Offer::Handed(handed) = active.ledger.next(self.surroundings.now) {
            let offset = handed.offset.expect("logs have offsets");
            let id = usize::try_from(offset).expect("it is positive") - 1;
            active.in_hand.insert(id, (handed.token.position, handed.token.delivery));
        }
    }

    /// What may be published or given up now: of each key the first, and no more than may come twice.
    pub(super) fn first_of_keys(&self, table: &Table, active: &Active) -> Vec<Id> {
        let may_be_twice = active.ledger.unrecorded().count;
        if may_be_twice >= self.batch && !self.lacks(Without::Bound) {
            return Vec::new();
        }
        let key = |id: &Id| table.rows[*id].key;
        let in_hand: Vec<Id> = active.in_hand.keys().copied().collect();
        let position = |id: &Id| self.rule.position(table, *id);
        let is_first = |id: &&Id| {
            self.lacks(Without::Lanes)
                || !in_hand.iter().any(|other| key(other) == key(id) && position(other) < position(id))
        };
        in_hand.iter().filter(is_first).copied().collect()
    }

    pub(super) fn settle(&self, active: &mut Active, id: Id, outcome: Outcome) {
        let (position, delivery) = active.in_hand.remove(&id).expect("it is in hand");
        let token = Token { scope: 0, position, delivery };
        assert!(active.ledger.settle(token, outcome, None, self.surroundings.now));
        self.hand_out(active);
    }

    /// Records what is settled, unless the lease is lost. What the statements of each database compare, which is
    /// in their `advance`: a token, and the position that was read or written last.
    pub(super) fn record(&self, database: &mut Database, active: &mut Active, is_heard: bool) -> bool {
        let save = active.ledger.save();
        let letters = || {
            let kept = save.rejected.iter().filter_map(Rejected::kept);
            kept.map(|letter| usize::try_from(letter.offset).expect("it is positive") - 1)
        };
        if self.lacks(Without::OneTransaction) {
            database.dead_letters.extend(letters());
        }
        let is_ours = database.token == active.token && database.position == active.position;
        if !is_ours && !self.lacks(Without::Fencing) {
            return false;
        }
        database.position = save.position;
        if self.lacks(Without::Contiguity) && !active.in_hand.contains_key(&0) {
            database.position = database.position.max(active.ledger.read_up_to());
        }
        if let Some(progress) = &save.progress
            && !self.lacks(Without::Progress)
        {
            database.progress.clone_from(progress);
        }
        if !self.lacks(Without::OneTransaction) {
            database.dead_letters.extend(letters());
        }
        if is_heard {
            active.position = save.position;
            active.ledger.saved(save);
        } else {
            active.ledger.keep(save, self.surroundings.now);
        }
        true
    }
}
