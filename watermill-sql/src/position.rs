//! [`Position`]: a place in a topic.

use serde::{Deserialize, Serialize};

/// Where a row is in the order in which a group reads. A group that has a position is done with
/// everything up to and including it.
///
/// Most groups read in the order of offsets, and their positions have transaction 0. A group that
/// follows PostgreSQL's snapshots, as Go's readers do, reads in the order of transactions first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Position {
    // The order of the fields is the order of positions.
    pub(crate) transaction: u64,
    pub(crate) offset: i64,
}

impl Position {
    /// Whether no row can come between the two.
    pub(crate) fn is_followed_by(self, next: Self) -> bool {
        self.transaction == next.transaction && self.offset.checked_add(1) == Some(next.offset)
    }

    /// The first place behind this one.
    pub(crate) fn next(self) -> Self {
        Self { offset: self.offset.saturating_add(1), ..self }
    }
}

/// A place in the order of offsets.
impl From<i64> for Position {
    fn from(offset: i64) -> Self {
        Self { transaction: 0, offset }
    }
}

impl From<(u64, i64)> for Position {
    fn from((transaction, offset): (u64, i64)) -> Self {
        Self { transaction, offset }
    }
}

/// As JSON: `7`, or `[4711,7]` with a transaction.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Offset(i64),
    Both(u64, i64),
}

impl From<Position> for Written {
    fn from(position: Position) -> Self {
        match position {
            Position { transaction: 0, offset } => Self::Offset(offset),
            Position { transaction, offset } => Self::Both(transaction, offset),
        }
    }
}

impl From<Written> for Position {
    fn from(written: Written) -> Self {
        match written {
            Written::Offset(offset) => offset.into(),
            Written::Both(transaction, offset) => (transaction, offset).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_come_before_offsets() {
        assert!(Position::from((1, 9)) < Position::from((2, 1)));
        assert!(Position::from(3) < Position::from(4));
    }

    #[test]
    fn it_is_written_and_read_as_json() {
        for (position, text) in [(Position::from(7), "7"), (Position::from((4711, 7)), "[4711,7]")] {
            assert_eq!(serde_json::to_string(&position).unwrap(), text);
            assert_eq!(serde_json::from_str::<Position>(text).unwrap(), position);
        }
    }

    #[test]
    fn only_neighbours_of_one_transaction_have_nothing_between_them() {
        assert!(Position::from(3).is_followed_by(4.into()));
        assert!(!Position::from(3).is_followed_by(5.into()));
        assert!(!Position::from((1, 3)).is_followed_by((2, 4).into()));
    }
}
