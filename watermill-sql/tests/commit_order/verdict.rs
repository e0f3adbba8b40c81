//! [`Verdict`]: what was delivered, compared with what is in the table.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::server::RowId;

/// What is wrong; by default nothing.
#[derive(Default, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) missing: Vec<RowId>,
    pub(crate) twice: Vec<RowId>,
    /// Delivered, and not in the table.
    pub(crate) invented: Vec<RowId>,
    /// Delivered after a later row of the same writer.
    pub(crate) late: Vec<RowId>,
}

impl Verdict {
    pub(crate) fn of(table: &[(i64, RowId)], delivered: &[RowId]) -> Self {
        let table: BTreeSet<RowId> = table.iter().map(|(_, row)| *row).collect();
        let mut verdict = Self::default();
        let mut seen = BTreeSet::new();
        let mut last = BTreeMap::new();
        for row in delivered {
            if !table.contains(row) {
                verdict.invented.push(*row);
            }
            if !seen.insert(*row) {
                verdict.twice.push(*row);
            } else if last.insert(row.0, row.1).is_some_and(|before| before > row.1) {
                verdict.late.push(*row);
            }
        }
        verdict.missing = table.difference(&seen).copied().collect();
        verdict
    }
}

/// There may be thousands: how many, and the first few.
impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { missing, twice, invented, late } = self;
        for (name, rows) in [("missing", missing), ("twice", twice), ("invented", invented), ("late", late)] {
            write!(f, "{} {name} {:?}; ", rows.len(), &rows[..rows.len().min(5)])?;
        }
        Ok(())
    }
}

#[test]
fn a_verdict_names_everything_that_is_wrong() {
    let table = [(1, (0, 0)), (2, (0, 1)), (3, (1, 0)), (4, (1, 1))];
    let delivered = [(0, 1), (0, 0), (1, 0), (1, 0), (2, 0)];
    let verdict = Verdict::of(&table, &delivered);
    assert_eq!(
        verdict,
        Verdict { missing: vec![(1, 1)], twice: vec![(1, 0)], invented: vec![(2, 0)], late: vec![(0, 0)] }
    );
}
