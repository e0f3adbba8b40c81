//! Columns as they are sent.

use sqlx::{Row as _, mysql::MySqlRow};

/// What a column holds, as it is sent, of whatever type it is.
pub(super) fn bytes(row: &MySqlRow, column: usize) -> sqlx::Result<Option<&[u8]>> {
    row.try_get_unchecked(column)
}
