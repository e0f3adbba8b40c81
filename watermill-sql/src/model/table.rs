//! [`Table`]: the messages, and the transactions that write them, in the steps that others can see.

/// A row, by its offset less one.
pub(super) type Id = usize;

/// What one transaction writes: the keys of its rows, in order.
pub(super) type Plan = Vec<u8>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Table {
    pub(super) rows: Vec<Row>,
    writers: Vec<Writer>,
    /// How many transactions have begun.
    begun: u64,
    /// Whether it can be seen that an offset is drawn and its row is not there yet.
    draws_first: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Row {
    pub(super) key: u8,
    writer: usize,
    pub(super) transaction: u64,
    pub(super) state: RowState,
    /// Those that had committed when its offset was drawn.
    after: Vec<Id>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum RowState {
    /// Its offset is drawn.
    Drawn,
    /// It is there, and its transaction is open.
    Written,
    Committed,
    /// It will never be there.
    Void,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Writer {
    phase: Phase,
    transaction: u64,
    drawn: usize,
    written: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    /// Has the lock of writers, a transaction's number, and one statement that writes its rows.
    Open,
    /// Its outcome can be seen; it has the lock.
    Ended,
    Gone,
}

/// A step of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Write {
    Begin,
    Draw,
    Insert,
    Commit,
    RollBack,
    Unlock,
}

impl Table {
    pub(super) fn new(writers: usize, draws_first: bool) -> Self {
        let writer = Writer { phase: Phase::Idle, transaction: 0, drawn: 0, written: 0 };
        Self { rows: Vec::new(), writers: vec![writer; writers], begun: 0, draws_first }
    }

    /// What writers may do next.
    pub(super) fn writes(&self, plans: &[Plan]) -> Vec<(usize, Write)> {
        let mut writes = Vec::new();
        for (at, writer) in self.writers.iter().enumerate() {
            match writer.phase {
                Phase::Idle => writes.push((at, Write::Begin)),
                Phase::Open => {
                    if writer.written < writer.drawn {
                        writes.push((at, Write::Insert));
                    } else if writer.drawn < plans[at].len() {
                        writes.push((at, Write::Draw));
                    } else {
                        writes.push((at, Write::Commit));
                    }
                    // It fails, or is killed, wherever it is.
                    if writer.drawn > 0 {
                        writes.push((at, Write::RollBack));
                    }
                }
                Phase::Ended => writes.push((at, Write::Unlock)),
                Phase::Gone => {}
            }
        }
        writes
    }

    pub(super) fn write(&mut self, plans: &[Plan], at: usize, write: Write) {
        match write {
            Write::Begin => {
                self.begun += 1;
                (self.writers[at].phase, self.writers[at].transaction) = (Phase::Open, self.begun);
            }
            Write::Draw => {
                let after = self.ids(RowState::Committed);
                let Writer { transaction, drawn, .. } = self.writers[at];
                let key = plans[at][drawn];
                self.rows.push(Row { key, writer: at, transaction, state: RowState::Drawn, after });
                self.writers[at].drawn += 1;
                if !self.draws_first {
                    self.write(plans, at, Write::Insert);
                }
            }
            Write::Insert => {
                self.turn(at, |row| row.state == RowState::Drawn, RowState::Written);
                self.writers[at].written += 1;
            }
            Write::Commit => self.end(at, RowState::Committed),
            Write::RollBack => self.end(at, RowState::Void),
            Write::Unlock => self.writers[at].phase = Phase::Gone,
        }
    }

    fn end(&mut self, at: usize, state: RowState) {
        self.turn(at, |_| true, state);
        self.writers[at].phase = Phase::Ended;
    }

    fn turn(&mut self, writer: usize, matches: impl Fn(&Row) -> bool, state: RowState) {
        let rows = self.rows.iter_mut().filter(|row| row.writer == writer && matches(row));
        rows.for_each(|row| row.state = state);
    }

    pub(super) fn ids(&self, state: RowState) -> Vec<Id> {
        (0..self.rows.len()).filter(|id| self.rows[*id].state == state).collect()
    }

    /// Whether every writer has gone.
    pub(super) fn is_quiet(&self) -> bool {
        self.writers.iter().all(|writer| writer.phase == Phase::Gone)
    }

    /// The writers that have the lock.
    pub(super) fn holders(&self) -> impl Iterator<Item = usize> {
        self.of_phase(|phase| matches!(phase, Phase::Open | Phase::Ended)).map(|(at, _)| at)
    }

    /// The writers whose statement runs.
    pub(super) fn running(&self, plans: &[Plan]) -> impl Iterator<Item = usize> {
        let is_running = |(at, writer): &(usize, &Writer)| writer.written < plans[*at].len();
        self.of_phase(|phase| phase == Phase::Open).filter(is_running).map(|(at, _)| at)
    }

    /// The lowest transaction that is open, or is yet to begin.
    pub(super) fn horizon(&self) -> u64 {
        let open = self.of_phase(|phase| phase == Phase::Open).map(|(_, writer)| writer.transaction);
        open.min().unwrap_or(self.begun + 1)
    }

    fn of_phase(&self, matches: impl Fn(Phase) -> bool) -> impl Iterator<Item = (usize, &Writer)> {
        self.writers.iter().enumerate().filter(move |(_, writer)| matches(writer.phase))
    }

    /// The rows of the same key that come before one: of its own transaction, and of those that had
    /// committed before it was written.
    pub(super) fn before(&self, id: Id) -> impl Iterator<Item = Id> {
        let row = &self.rows[id];
        let is_before = move |other: &Id| {
            let before = &self.rows[*other];
            before.key == row.key
                && ((before.writer == row.writer && *other < id) || row.after.contains(other))
        };
        (0..self.rows.len()).filter(is_before)
    }
}
