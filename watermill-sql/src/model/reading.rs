//! [`Reading`]: how a reader decides which rows it may read, a statement at a time.

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::table::{Id, Plan, Row, RowState, Table};
use crate::{
    mysql::gaps::{Gap, Gaps, Probed},
    position::Position,
    postgres::look::{Holding, Look, Looks},
};

/// The rule that a reader goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Rule {
    /// PostgreSQL, by those who hold the lock of writers: [`Looks`] decides.
    LockHolders,
    /// The same, with the locks looked at before the sequence.
    LocksFirst,
    /// The same, without looking at the locks.
    NoLocks,
    /// PostgreSQL, below the lowest transaction that is open.
    Snapshot,
    /// The same, up to whatever can be seen.
    NoHorizon,
    /// MySQL, by statements and probes: [`Gaps`] decides.
    Gaps,
    /// The same, by probes alone.
    ProbeAlone,
    /// The same, by statements alone.
    NoProbe,
    /// Rows above the last, as most relays do that are written by hand.
    IdCursor,
}

impl Rule {
    /// Whether a reader looks at what a statement has done so far.
    pub(super) fn sees_statements(self) -> bool {
        matches!(self, Self::Gaps | Self::ProbeAlone | Self::NoProbe)
    }

    /// Where a row is in the order in which a group reads.
    pub(super) fn position(self, table: &Table, id: Id) -> Position {
        let offset = i64::try_from(id).expect("few rows") + 1;
        match self {
            Self::Snapshot | Self::NoHorizon => (table.rows[id].transaction, offset).into(),
            _ => offset.into(),
        }
    }
}

/// What a reader knows, and what it has asked last.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reading {
    LockHolders { looks: Looks, read: i64, half: Option<Half> },
    Gaps { gaps: Gaps, stage: Stage },
    Plain,
}

/// One half of a look: the sequence, or the locks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Half {
    Sequence(i64),
    Locks(Vec<Holding>),
}

/// How far the decision of gaps has got.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    Idle,
    Seen { gaps: Vec<Gap>, up_to: i64 },
    Probing { left: Vec<Gap>, found: Vec<(Gap, Probed)> },
    Decided,
}

/// What a reader is asked to do, and with what.
pub(super) struct Ask<'a> {
    pub(super) rule: Rule,
    pub(super) table: &'a Table,
    pub(super) plans: &'a [Plan],
    pub(super) after: Position,
    pub(super) limit: usize,
    pub(super) now: Instant,
}

impl Reading {
    pub(super) fn new(rule: Rule) -> Self {
        match rule {
            Rule::LockHolders | Rule::LocksFirst | Rule::NoLocks => {
                Self::LockHolders { looks: Looks::default(), read: 0, half: None }
            }
            Rule::Snapshot | Rule::NoHorizon | Rule::IdCursor => Self::Plain,
            _ => Self::Gaps { gaps: Gaps::default(), stage: Stage::Idle },
        }
    }

    /// Runs the next statement, and returns the rows to take in.
    pub(super) fn step(&mut self, ask: &Ask<'_>) -> Vec<Id> {
        match self {
            Self::LockHolders { looks, read, half } => by_lock_holders(ask, looks, read, half),
            Self::Gaps { gaps, stage } => by_gaps(ask, gaps, stage),
            Self::Plain => ask.rows(|id| match ask.rule {
                Rule::Snapshot => ask.table.rows[id].transaction < ask.table.horizon(),
                _ => true,
            }),
        }
    }
}

impl Ask<'_> {
    /// The rows after the position that can be seen, as many as are asked for.
    fn rows(&self, matches: impl Fn(Id) -> bool) -> Vec<Id> {
        let mut rows = self.table.ids(RowState::Committed);
        let position = |id: &Id| self.rule.position(self.table, *id);
        rows.retain(|id| position(id) > self.after && matches(*id));
        rows.sort_by_key(position);
        rows.truncate(self.limit);
        rows
    }

    fn holders(&self) -> Vec<Holding> {
        let named = |at| Holding { virtual_transaction: format!("{at}/1"), pid: Some(1) };
        self.table.holders().map(named).collect()
    }

    fn drawn(&self) -> i64 {
        i64::try_from(self.table.rows.len()).expect("few rows")
    }
}

fn offset(id: Id) -> i64 {
    i64::try_from(id).expect("few rows") + 1
}

fn by_lock_holders(ask: &Ask<'_>, looks: &mut Looks, read: &mut i64, half: &mut Option<Half>) -> Vec<Id> {
    *read = (*read).max(ask.after.offset);
    let decided = looks.decided();
    if half.is_none() && *read < decided {
        let rows = ask.rows(|id| offset(id) <= decided);
        *read = if rows.len() == ask.limit { rows.last().map_or(decided, |id| offset(*id)) } else { decided };
        return rows;
    }
    let (drawn, holders) = match (half.take(), ask.rule) {
        (None, _) if ask.drawn() == decided && !looks.is_open() => return Vec::new(),
        (None, Rule::LocksFirst) => {
            *half = Some(Half::Locks(ask.holders()));
            return Vec::new();
        }
        (None, _) => {
            *half = Some(Half::Sequence(ask.drawn()));
            return Vec::new();
        }
        (Some(Half::Locks(holders)), _) => (ask.drawn(), holders),
        (Some(Half::Sequence(drawn)), Rule::NoLocks) => (drawn, Vec::new()),
        (Some(Half::Sequence(drawn)), _) => (drawn, ask.holders()),
    };
    looks.note(Look { drawn, holders, at: ask.now });
    Vec::new()
}

fn by_gaps(ask: &Ask<'_>, gaps: &mut Gaps, stage: &mut Stage) -> Vec<Id> {
    let after = ask.after.offset;
    match std::mem::replace(stage, Stage::Idle) {
        Stage::Idle => {
            let rows = ask.rows(|_| true);
            let Some(last) = rows.last() else { return rows };
            gaps.forget_up_to(after);
            let missing = gaps.undecided(after, rows.iter().map(|id| offset(*id)));
            if missing.is_empty() {
                gaps.clear(after);
                return rows;
            }
            *stage = Stage::Seen { gaps: missing, up_to: offset(*last) };
        }
        Stage::Seen { gaps: missing, up_to } => {
            let running: BTreeSet<_> = match ask.rule {
                Rule::ProbeAlone => BTreeSet::new(),
                _ => ask.table.running(ask.plans).map(|at| (offset(at), 1)).collect(),
            };
            gaps.note_running(up_to, running, ask.now);
            *stage = match gaps.running() {
                Some(_) => Stage::Decided,
                None => Stage::Probing { left: gaps.of_wave(&missing), found: Vec::new() },
            };
        }
        Stage::Probing { mut left, mut found } => {
            if let Some(gap) = left.pop() {
                found.push((gap, probe(ask, gap)));
            }
            if !left.is_empty() {
                *stage = Stage::Probing { left, found };
                return Vec::new();
            }
            gaps.note_probes(&found, ask.now);
            *stage = Stage::Decided;
        }
        Stage::Decided => {
            let rows = ask.rows(|_| true);
            let missing = gaps.undecided(after, rows.iter().map(|id| offset(*id)));
            let first = missing.first().map_or(i64::MAX, |(first, _)| *first);
            return rows.into_iter().filter(|id| offset(*id) < first).collect();
        }
    }
    Vec::new()
}

/// A locking read of a gap that does not wait.
fn probe(ask: &Ask<'_>, (first, last): Gap) -> Probed {
    if ask.rule == Rule::NoProbe {
        return Probed::Empty;
    }
    let has = |state| {
        let rows = ask.table.rows.iter().enumerate().filter(|(_, row): &(_, &Row)| row.state == state);
        rows.into_iter().any(|(id, _)| (first..=last).contains(&offset(id)))
    };
    match (has(RowState::Written), has(RowState::Committed)) {
        (true, _) => Probed::Locked,
        (false, true) => Probed::Row,
        (false, false) => Probed::Empty,
    }
}
