//! [`Report`]: what became of the draws, as a table.

use std::{
    fmt,
    io::{IsTerminal, stdout},
};

use comfy_table::{CellAlignment, ContentArrangement, ContentLineStyle, Table, presets::UTF8_FULL_CONDENSED};
use watermill_core::error::BoxError;

use crate::{
    database::{Database, Stored},
    draw::Strategy,
    draws::Drawn,
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

/// What stands between two columns.
const BORDER: char = '│';
const RED: &str = "\u{1b}[1;31m";
const GREEN: &str = "\u{1b}[1;32m";
const RESET: &str = "\u{1b}[0m";

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
        database: &dyn Database,
    ) -> Result<Self, BoxError> {
        let stored = database.stored_from(drawn.first_lottery()).await?;
        let rows = Strategy::ALL.map(|strategy| Row::new(strategy, drawn, &stored));
        let title = format!("{} draws, failure rate {}, seed {seed}", drawn.len(), options.failure_rate);
        Ok(Self { title, rows: rows.to_vec(), kills, settled })
    }

    /// Whether the transactional strategy kept its promise.
    pub(crate) fn is_consistent(&self) -> bool {
        let kept = |row: &Row| row.never_announced == 0 && row.without_winner == 0;
        self.settled && self.rows.iter().filter(|row| row.strategy == Strategy::Transactional).all(kept)
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        let lines = ContentLineStyle::new(BORDER, BORDER, BORDER);
        let style = UTF8_FULL_CONDENSED.header_lines(lines).content_lines(lines);
        table.load_style(style).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(HEADER);
        table.add_rows(self.rows.iter().map(Row::cells));
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}

impl Row {
    fn new(strategy: Strategy, drawn: &Drawn, stored: &Stored) -> Self {
        let lotteries: Vec<i64> = drawn.of(strategy).map(|draw| draw.lottery).collect();
        let count = |is: &dyn Fn(&i64) -> bool| lotteries.iter().filter(|lottery| is(lottery)).count();
        let Stored { winners, announcements, prizes } = stored;
        Self {
            strategy,
            draws: lotteries.len(),
            committed: count(&|lottery| winners.contains(lottery)),
            events: count(&|lottery| announcements.contains(lottery)),
            never_announced: count(&|lottery| winners.contains(lottery) && !announcements.contains(lottery)),
            without_winner: count(&|lottery| announcements.contains(lottery) && !winners.contains(lottery)),
            prizes: count(&|lottery| prizes.contains(lottery)),
        }
    }

    fn cells(&self) -> [String; 7] {
        let numbers =
            [self.draws, self.committed, self.events, self.never_announced, self.without_winner, self.prizes];
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
            let row = self.rows.iter().find(|row| colourful && line.contains(row.strategy.name()));
            match row {
                Some(row) => writeln!(f, "{}", row.colour(&line))?,
                None => writeln!(f, "{line}")?,
            }
        }
        writeln!(
            f,
            "\nStoring a row and publishing an event are two steps, and a crash between them leaves one"
        )?;
        writeln!(f, "without the other. In one transaction they are one step.")?;
        match (self.settled, self.kills) {
            (false, _) => writeln!(f, "Some events that were announced have not arrived."),
            (true, 0) => Ok(()),
            (true, 1) => writeln!(f, "Its relay was killed once meanwhile, and lost nothing."),
            (true, kills) => writeln!(f, "Its relay was killed {kills} times meanwhile, and lost nothing."),
        }
    }
}

impl Row {
    /// Paints the columns that are to be zero: red where they are not, green where that is the
    /// transaction's merit.
    fn colour(&self, line: &str) -> String {
        let paint = |(at, cell): (usize, &str)| {
            // The border to the left makes the first column number 1.
            let colour = match (INCONSISTENT.contains(&at.wrapping_sub(1)), cell.trim()) {
                (true, "0") if self.strategy == Strategy::Transactional => GREEN,
                (true, number) if number != "0" => RED,
                _ => return cell.to_owned(),
            };
            format!("{colour}{cell}{RESET}")
        };
        line.split(BORDER).enumerate().map(paint).collect::<Vec<_>>().join(&BORDER.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(strategy: Strategy, never_announced: usize, without_winner: usize) -> Row {
        Row { strategy, draws: 9, committed: 9, events: 9, never_announced, without_winner, prizes: 9 }
    }

    fn report(rows: &[Row], settled: bool) -> Report {
        Report { title: String::new(), rows: rows.to_vec(), kills: 3, settled }
    }

    #[test]
    fn only_the_transaction_must_be_consistent() {
        let (first, good) = (row(Strategy::PublishThenStore, 0, 5), row(Strategy::Transactional, 0, 0));
        assert!(report(&[first, good], true).is_consistent());
        assert!(!report(&[first, good], false).is_consistent(), "an event has not arrived");
        assert!(!report(&[first, row(Strategy::Transactional, 1, 0)], true).is_consistent());
        assert!(!report(&[first, row(Strategy::Transactional, 0, 1)], true).is_consistent());
    }

    #[test]
    fn what_should_be_zero_is_painted() {
        let rows = [row(Strategy::PublishThenStore, 0, 5), row(Strategy::Transactional, 0, 0)];
        let table = report(&rows, true).table();
        let lines: Vec<String> = table.lines().collect();
        let painted = |row: &Row| {
            let line = lines.iter().find(|line| line.contains(row.strategy.name())).unwrap();
            let colours = [GREEN, RED].map(|colour| row.colour(line).matches(colour).count());
            assert_eq!(row.colour(line).replace(GREEN, "").replace(RED, "").replace(RESET, ""), *line);
            colours
        };
        assert_eq!(painted(&rows[0]), [0, 1]);
        assert_eq!(painted(&rows[1]), [2, 0]);
    }
}
