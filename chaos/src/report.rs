//! [`Report`]: a run as a table, and its verdict.

use std::{
    collections::BTreeMap,
    fmt,
    io::{IsTerminal as _, stdout},
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use comfy_table::{CellAlignment, ContentArrangement, ContentLineStyle, Table, presets::UTF8_FULL_CONDENSED};

use crate::{
    checks::{Evidence, Finding, What},
    fault::Fault,
    options::Run,
    records::{Moment, Records},
};

/// What stands between two columns.
const BORDER: char = '│';
const RED: &str = "\u{1b}[1;31m";
const GREEN: &str = "\u{1b}[1;32m";
const RESET: &str = "\u{1b}[0m";

/// What came of a run.
pub(crate) struct Report {
    pub(crate) run: Run,
    pub(crate) evidence: Evidence,
    pub(crate) findings: Vec<Finding>,
    /// Before the first fault, and after each.
    pub(crate) repeats: Vec<usize>,
    pub(crate) stalls: Vec<Moment>,
    /// The faults that could not be made, with the reasons.
    pub(crate) cannot: BTreeMap<Fault, String>,
    pub(crate) notes: Vec<String>,
    pub(crate) counts: Arc<Records>,
    /// Where the relays have left their logs.
    pub(crate) folder: PathBuf,
}

/// What faults of a kind did.
struct Row {
    times: usize,
    repeats: usize,
    longest: Moment,
}

impl Report {
    /// Whether everything that was promised was kept.
    pub(crate) fn is_kept(&self) -> bool {
        self.findings.is_empty()
    }

    fn row(&self, fault: Fault) -> Row {
        let places = self.evidence.made.iter().enumerate().filter(|(_, made)| made.fault == fault);
        let places: Vec<usize> = places.map(|(at, _)| at + 1).collect();
        Row {
            times: places.len(),
            repeats: places.iter().map(|at| self.repeats[*at]).max().unwrap_or_default(),
            longest: places.iter().map(|at| self.stalls[*at]).max().unwrap_or_default(),
        }
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        let lines = ContentLineStyle::new(BORDER, BORDER, BORDER);
        let style = UTF8_FULL_CONDENSED.header_lines(lines).content_lines(lines);
        table.load_style(style).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(["fault", "times", "what was done", "most repeats", "longest wait"]);
        for fault in Fault::ALL {
            let Row { times, repeats, longest } = self.row(fault);
            let what = match self.cannot.get(&fault) {
                Some(why) => format!("not made: {}", why.lines().next().unwrap_or_default()),
                None => fault.what().to_owned(),
            };
            let figure = |text: String| if times == 0 { String::new() } else { text };
            table.add_row([
                fault.name().to_owned(),
                times.to_string(),
                what,
                figure(repeats.to_string()),
                figure(seconds(longest)),
            ]);
        }
        let counts = &self.counts.counts;
        let always =
            |name: &str, times: u64, what: &str| [name, &times.to_string(), what, "", ""].map(str::to_owned);
        table.add_row(always(
            "late commit",
            counts.late.load(Ordering::Relaxed),
            "a transaction that commits 0.3 s to 1.2 s after its last statement",
        ));
        table.add_row(always(
            "rollback",
            counts.rolled_back.load(Ordering::Relaxed),
            "a transaction with messages that never commits",
        ));
        table.add_row(always(
            "refused message",
            counts.refused.load(Ordering::Relaxed),
            "larger than the broker takes: it has to be among the dead letters",
        ));
        for column in [1, 3, 4] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Evidence { rows, arrived, dead, made, .. } = &self.evidence;
        let repeated: usize = self.repeats.iter().sum();
        let count = |what: What| {
            self.findings.iter().find(|finding| finding.what == what).map_or(0, |finding| finding.count)
        };
        let longest = self.stalls.iter().copied().max().unwrap_or_default();
        writeln!(f, "{}, seed {}", self.run, self.run.seed)?;
        writeln!(f, "{}", self.table())?;
        writeln!(
            f,
            "{} messages committed, {} records of them in the topic, {} dead letters, {} faults",
            rows.len(),
            arrived.len(),
            dead.len(),
            made.len()
        )?;
        writeln!(
            f,
            "lost {}, invented {}, keys out of order {}, repeated {repeated}, longest wait {}",
            count(What::Lost),
            count(What::Invented) + count(What::Changed),
            count(What::Reordered),
            seconds(longest)
        )?;
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        if self.is_kept() {
            return writeln!(f, "{}", coloured(GREEN, "KEPT: everything that was promised"));
        }
        for Finding { what, count, example } in &self.findings {
            let line = format!("BROKEN: {}: {count}", what.name());
            writeln!(f, "{}, such as: {example}", coloured(RED, &line))?;
        }
        writeln!(f, "its relays' logs are in {}; again: {}", self.folder.display(), self.run.command())
    }
}

fn seconds(milliseconds: Moment) -> String {
    format!("{:.1} s", milliseconds as f64 / 1_000.0)
}

fn coloured(colour: &str, text: &str) -> String {
    if stdout().is_terminal() { format!("{colour}{text}{RESET}") } else { text.to_owned() }
}
