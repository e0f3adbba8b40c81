//! [`Outcome`] and [`Report`]: what is there in the end.

use std::{collections::BTreeMap, fmt};

/// What a database holds after its consumer was killed, and killed again.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) database: &'static str,
    pub(crate) kills: BTreeMap<&'static str, usize>,
    pub(crate) messages: i64,
    pub(crate) effects: i64,
    pub(crate) distinct_effects: i64,
    pub(crate) total: i64,
    pub(crate) outputs: i64,
    pub(crate) distinct_outputs: i64,
}

#[derive(Debug, Default)]
pub(crate) struct Report(Vec<Outcome>);

impl Outcome {
    pub(crate) fn is_exactly_once(&self) -> bool {
        let held = [self.effects, self.distinct_effects, self.total, self.outputs, self.distinct_outputs];
        held.iter().all(|held| *held == self.messages)
    }

    fn kills(&self) -> usize {
        self.kills.values().sum()
    }
}

impl Report {
    pub(crate) fn add(&mut self, outcome: Outcome) {
        self.0.push(outcome);
    }

    pub(crate) fn assert_exactly_once(&self, kills: usize) {
        for outcome in &self.0 {
            assert!(outcome.is_exactly_once(), "{outcome}");
        }
        assert_eq!(self.0.iter().map(Outcome::kills).sum::<usize>(), kills);
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} kills; of {} messages {} effects ({} different, counted {}), {} outputs ({} different)",
            self.database,
            self.kills(),
            self.messages,
            self.effects,
            self.distinct_effects,
            self.total,
            self.outputs,
            self.distinct_outputs
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: BTreeMap<_, ()> =
            self.0.iter().flat_map(|outcome| outcome.kills.keys().map(|step| (*step, ()))).collect();
        write!(f, "{:<26}", "killed at")?;
        self.0.iter().try_for_each(|outcome| write!(f, "{:>12}", outcome.database))?;
        writeln!(f)?;
        for step in steps.keys() {
            write!(f, "{step:<26}")?;
            for outcome in &self.0 {
                match outcome.kills.get(step) {
                    Some(kills) => write!(f, "{kills:>12}")?,
                    None => write!(f, "{:>12}", "-")?,
                }
            }
            writeln!(f)?;
        }
        self.0.iter().try_for_each(|outcome| writeln!(f, "{outcome}"))
    }
}
