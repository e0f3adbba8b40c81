//! [`Report`]: what became of the draws, as a table.

use std::{
    collections::BTreeSet,
    fmt,
    io::{IsTerminal, stdout},
};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};
use watermill_core::error::BoxError;

use crate::{
    database::Database,
    draw::{Drawn, Strategy},
    options::Options,
};

const HEADER: [&str; 7] = [
    "strategy",
    "draws",
    "committed",
    "events",
    "winners never announced",
    "events without a winner",
    "prizes sent",
];

/// The columns that are to be zero.
const INCONSISTENT: [usize; 2] = [4, 5];

/// What the parts of the lottery agree on, and where they do not.
pub(crate) struct Report {
    title: String,
    rows: Vec<Row>,
    kills: u32,
    /// Whether everything that was announced was heard within the time there was for it.
    settled: bool,
}

/// One strategy. Only sets of lotteries are counted, so an event that came twice counts once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    strategy: Strategy,
    draws: usize,
    committed: usize,
    events: usize,
    never_announced: usize,
    without_winner: usize,
    prizes: usize,
}

impl Report {
    pub(crate) async fn new(
        options: &Options,
        seed: u64,
        kills: u32,
        settled: bool,
        drawn: &Drawn,
        database: &Database,
    ) -> Result<Self, BoxError> {
        let stored = database.stored_from(drawn.first_lottery()).await?;
        let sets = [stored.winners, stored.announcements, stored.prizes];
        let [winners, events, prizes] = sets.map(BTreeSet::from_iter);
        let rows = Strategy::ALL.map(|strategy| Row::new(strategy, drawn, &winners, &events, &prizes));
        let title = format!("{} draws, failure rate {}, seed {seed}", drawn.len(), options.failure_rate);
        Ok(Self { title, rows: rows.to_vec(), kills, settled })
    }

    /// Whether the transactional strategy kept its promise.
    pub(crate) fn is_consistent(&self) -> bool {
        let kept = |row: &Row| row.never_announced == 0 && row.without_winner == 0;
        self.settled
            && self.rows.iter().filter(|row| row.strategy == Strategy::Transactional).all(kept)
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(HEADER);
        table.add_rows(self.rows.iter().map(Row::cells));
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}

impl Row {
    fn new(
        strategy: Strategy,
        drawn: &Drawn,
        winners: &BTreeSet<i64>,
        events: &BTreeSet<i64>,
        prizes: &BTreeSet<i64>,
    ) -> Self {
        let lotteries: Vec<i64> = drawn.of(strategy).map(|draw| draw.lottery).collect();
        let count = |is: &dyn Fn(&i64) -> bool| lotteries.iter().filter(|lottery| is(lottery)).count();
        Self {
            strategy,
            draws: lotteries.len(),
            committed: count(&|lottery| winners.contains(lottery)),
            events: count(&|lottery| events.contains(lottery)),
            never_announced: count(&|lottery| winners.contains(lottery) && !events.contains(lottery)),
            without_winner: count(&|lottery| events.contains(lottery) && !winners.contains(lottery)),
            prizes: count(&|lottery| prizes.contains(lottery)),
        }
    }

    fn cells(&self) -> [String; 7] {
        let numbers = [
            self.draws,
            self.committed,
            self.events,
            self.never_announced,
            self.without_winner,
            self.prizes,
        ];
        let mut cells = [(); 7].map(|()| self.strategy.name().to_owned());
        for (cell, number) in cells[1..].iter_mut().zip(numbers) {
            *cell = number.to_string();
        }
        cells
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        let colourful = stdout().is_terminal();
        for line in self.table().lines() {
            writeln!(f, "{}", if colourful { colour(&line) } else { line })?;
        }
        if !self.settled {
            writeln!(f, "Some events that were announced have not arrived.")?;
        }
        writeln!(
            f,
            "Storing and publishing are two steps, and a crash between them leaves one without the other.\n\
             In one transaction they are one step; its relay was killed {} times and lost nothing.",
            self.kills,
        )
    }
}
