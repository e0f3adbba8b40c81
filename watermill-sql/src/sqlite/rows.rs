//! Reading rows.

use sqlx::{Row as _, sqlite::SqliteRow};

use super::moment::moment;
use crate::{
    marshaler::Columns,
    stored::{Row, Store},
};

/// As they are: columns are untyped, and some writers put text into the payload, say.
pub(super) const COLUMNS: &str = r#""offset", uuid, payload, metadata, created_at"#;

pub(super) fn read(row: &SqliteRow, store: &mut Store) -> sqlx::Result<Row> {
    Ok(Row {
        position: row.try_get::<i64, _>(0)?.into(),
        published_at: bytes(row, 4)?.and_then(moment),
        message: store.keep(Columns {
            uuid: bytes(row, 1)?.unwrap_or_default(),
            payload: bytes(row, 2)?.unwrap_or_default(),
            metadata: bytes(row, 3)?,
        }),
    })
}

/// What a column holds, of whatever type it is: a number as its text.
fn bytes(row: &SqliteRow, column: usize) -> sqlx::Result<Option<&[u8]>> {
    row.try_get_unchecked(column)
}
