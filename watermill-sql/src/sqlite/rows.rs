//! Reading rows.

use std::time::{Duration, SystemTime};

use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{
    marshaler::Columns,
    stored::{Row, Store},
};

/// The casts make every row readable whatever its writer put into SQLite's untyped columns: text
/// into the payload, say.
pub(super) const COLUMNS: &str = r#""offset", cast(uuid as blob), cast(payload as blob),
    cast(metadata as blob), cast(unixepoch(created_at, 'subsec') * 1000 as integer)"#;

pub(super) fn read(row: &SqliteRow, store: &mut Store) -> sqlx::Result<Row> {
    let published_at = row.try_get::<Option<u64>, _>(4).ok().flatten();
    Ok(Row {
        position: row.try_get::<i64, _>(0)?.into(),
        published_at: published_at
            .and_then(|ms| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms))),
        message: store.keep(Columns {
            uuid: row.try_get(1)?,
            payload: row.try_get::<Option<&[u8]>, _>(2)?.unwrap_or_default(),
            metadata: row.try_get(3)?,
        }),
    })
}
