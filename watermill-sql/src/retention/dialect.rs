//! [`RetentionDialect`]: everything about retention that differs between databases.

use std::time::Duration;

use async_trait::async_trait;

use crate::{connection::ConnectionDialect, position::Position, topic::Tables};

/// The statements of one database for retention. Each is one short transaction.
#[async_trait]
pub trait RetentionDialect: ConnectionDialect {
    /// Looks at the next rows of a log behind a place in its table, and deletes those that are old and that
    /// every group has read, unless somebody has them locked.
    async fn expire_read(
        connection: &mut Self::Connection,
        expiry: &Expiry,
        after: Position,
    ) -> sqlx::Result<Expired>;

    /// Looks at the next rows of a queue that are marked as acked and old, and deletes them, unless
    /// somebody has them locked.
    async fn expire_acked(
        connection: &mut Self::Connection,
        expiry: &Expiry,
        after: Position,
    ) -> sqlx::Result<Expired>;
}

/// What is to go.
#[derive(Debug)]
pub struct Expiry {
    pub(crate) tables: Tables,
    /// How old a row must be.
    pub(crate) keep_ms: i64,
    /// How many rows to look at.
    pub(crate) limit: usize,
    /// Whether the log has a table of offsets.
    pub(crate) has_offsets: bool,
    /// Whether rows go that have no group.
    pub(crate) without_groups: bool,
    /// After how long a silence the server may roll a batch back.
    #[cfg_attr(not(feature = "mysql"), expect(dead_code, reason = "elsewhere a batch is one statement"))]
    pub(crate) silence: Duration,
}

/// What has gone.
#[derive(Debug, Default)]
pub struct Expired {
    /// How many rows were looked at.
    pub(crate) looked_at: usize,
    /// The place of the last of them.
    pub(crate) last: Position,
    pub(crate) deleted: u64,
    /// A group for which a row was kept that is old.
    pub(crate) kept_for: Option<String>,
}

/// Where every group reads in the order of offsets, what a look has found tells what may go.
#[cfg(any(feature = "mysql", feature = "sqlite"))]
impl Expiry {
    /// The offsets of the rows to delete, of `looked_at` with whether they are old; and an answer that lacks
    /// how many could be. `last_group` is the group that has read least, with its position.
    pub(crate) fn choose(
        &self,
        looked_at: &[(i64, bool)],
        last_group: Option<(String, i64)>,
    ) -> (Vec<i64>, Expired) {
        let old = looked_at.iter().filter(|(_, old)| *old).map(|(offset, _)| *offset);
        let (read_up_to, group) = match last_group {
            Some((group, read_up_to)) => (read_up_to, Some(group)),
            None if self.without_groups => (i64::MAX, None),
            None => (i64::MIN, None),
        };
        let (read, unread): (Vec<i64>, Vec<i64>) = old.partition(|offset| *offset <= read_up_to);
        let expired = Expired {
            looked_at: looked_at.len(),
            last: looked_at.last().map_or(0, |(offset, _)| *offset).into(),
            deleted: 0,
            kept_for: group.filter(|_| !unread.is_empty()),
        };
        (read, expired)
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use super::*;

    const ROWS: &[(i64, bool)] = &[(1, true), (2, true), (3, false), (5, true)];

    fn choose(last_group: Option<(&str, i64)>, without_groups: bool) -> (Vec<i64>, Option<String>) {
        let tables = Tables::new::<sqlx::Sqlite>("t").unwrap();
        let expiry = Expiry {
            tables,
            keep_ms: 0,
            limit: 4,
            has_offsets: true,
            without_groups,
            silence: Duration::ZERO,
        };
        let (read, expired) = expiry.choose(ROWS, last_group.map(|(group, at)| (group.to_owned(), at)));
        assert_eq!((expired.looked_at, expired.last), (4, 5.into()));
        (read, expired.kept_for)
    }

    #[test]
    fn what_is_old_and_was_read_by_the_last_group_may_go() {
        assert_eq!(choose(Some(("slow", 2)), false), (vec![1, 2], Some("slow".to_owned())));
        assert_eq!(choose(Some(("slow", 5)), false), (vec![1, 2, 5], None));
        assert_eq!(choose(Some(("new", 0)), true), (vec![], Some("new".to_owned())));
    }

    #[test]
    fn without_groups_nothing_goes_unless_that_is_wanted() {
        assert_eq!(choose(None, false), (vec![], None));
        assert_eq!(choose(None, true), (vec![1, 2, 5], None));
    }
}
