//! Rows that come many in one.
//!
//! The driver has a thread for each connection, which hands row after row to the task that waits for it, with copies of
//! their columns. That takes several times as long as SQLite takes to find them. So a fetch asks for one row, with each
//! column of all rows one after another, and how long each of them is.

use sqlx::{AssertSqlSafe, Row as _, SqliteConnection, sqlite::SqliteRow};

use super::moment::moment;
use crate::{
    marshaler::Columns,
    position::Position,
    stored::{Limit, Row, Rows, Store},
    topic::Tables,
};

/// What is larger gains nothing, and would be in memory several times.
const PACKED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The length of a null.
const NULL: &str = "-";

/// The next rows, in the order of offsets, or `None` when they are too large for that, or text is not as it is sent.
pub(super) async fn fetch(
    connection: &mut SqliteConnection,
    tables: &Tables,
    after: Position,
    limit: Limit,
) -> sqlx::Result<Option<Rows>> {
    let messages = tables.messages();
    // Sizes are known without reading what is so large. In UTF-16 a letter has two bytes.
    let packed = sqlx::query(AssertSqlSafe(format!(
        r#"with sizes as materialized (
               select count(*) as n, coalesce(sum(bytes), 0) as bytes from (
                   select coalesce(octet_length(uuid), 0) + coalesce(octet_length(payload), 0)
                          + coalesce(octet_length(metadata), 0) + coalesce(octet_length(created_at), 0) as bytes
                   from {messages} where "offset" > ?1 order by "offset" limit ?2
               )
           )
           select (select n from sizes), group_concat("offset"),
                  group_concat(coalesce(octet_length(uuid), '{NULL}')), group_concat(uuid, ''),
                  group_concat(coalesce(octet_length(payload), '{NULL}')), group_concat(payload, ''),
                  group_concat(coalesce(octet_length(metadata), '{NULL}')), group_concat(metadata, ''),
                  group_concat(coalesce(octet_length(created_at), '{NULL}')), group_concat(created_at, '')
           from (
               select "offset", uuid, payload, metadata, created_at from {messages}
               where "offset" > ?1 and (select bytes from sizes) <= ?3 and octet_length('a') = 1
               order by "offset" limit ?2
           )"#,
    )))
    .bind(after.offset)
    .bind(i64::try_from(limit.rows).unwrap_or(i64::MAX))
    .bind(i64::try_from(limit.bytes.min(PACKED_BYTES_MAX)).unwrap_or(i64::MAX))
    .fetch_one(connection)
    .await?;
    let found: i64 = packed.try_get(0)?;
    let rows = unpack(&packed, usize::try_from(found).unwrap_or(0))?;
    Ok(rows.map(|rows| Rows { rows, is_cut: false }))
}

/// `None` unless all that were found are there, and whole.
fn unpack(packed: &SqliteRow, found: usize) -> sqlx::Result<Option<Vec<Row>>> {
    let offsets = bytes(packed, 1)?;
    let [mut uuids, mut payloads, mut metadata, mut moments] = [
        Column::read(packed, 2)?,
        Column::read(packed, 4)?,
        Column::read(packed, 6)?,
        Column::read(packed, 8)?,
    ];
    let (mut store, mut rows) = (Store::default(), Vec::with_capacity(found));
    for offset in offsets.split(|byte| *byte == b',').filter(|offset| !offset.is_empty()) {
        let columns = (uuids.take(), payloads.take(), metadata.take(), moments.take());
        let (Some(uuid), Some(payload), Some(metadata), Some(moment_text)) = columns else { return Ok(None) };
        let Some(offset) = std::str::from_utf8(offset).ok().and_then(|text| text.parse::<i64>().ok()) else {
            return Ok(None);
        };
        let columns =
            Columns { uuid: uuid.unwrap_or_default(), payload: payload.unwrap_or_default(), metadata };
        rows.push(Row {
            position: offset.into(),
            published_at: moment_text.and_then(moment),
            message: store.keep(columns),
        });
    }
    let is_whole = rows.len() == found && [uuids, payloads, metadata, moments].iter().all(Column::is_empty);
    // SQLite does not promise in which order it aggregates; it is the same for all of them.
    rows.sort_unstable_by_key(|row| row.position.offset);
    Ok(is_whole.then_some(rows))
}

/// A column of all rows.
struct Column<'r> {
    /// With commas between them.
    lengths: &'r [u8],
    contents: &'r [u8],
}

impl<'r> Column<'r> {
    /// The lengths are in that column of the packed row, the contents in the next one.
    fn read(packed: &'r SqliteRow, index: usize) -> sqlx::Result<Self> {
        Ok(Self { lengths: bytes(packed, index)?, contents: bytes(packed, index + 1)? })
    }

    /// What the next row has, perhaps a null; `None` where there is not so much.
    fn take(&mut self) -> Option<Option<&'r [u8]>> {
        let end = self.lengths.iter().position(|byte| *byte == b',').unwrap_or(self.lengths.len());
        let (length, rest) = self.lengths.split_at(end);
        self.lengths = rest.get(1..).unwrap_or_default();
        if length == NULL.as_bytes() {
            return Some(None);
        }
        let length = std::str::from_utf8(length).ok()?.parse().ok()?;
        let (taken, rest) = self.contents.split_at_checked(length)?;
        self.contents = rest;
        Some(Some(taken))
    }

    fn is_empty(&self) -> bool {
        self.lengths.is_empty() && self.contents.is_empty()
    }
}

/// A column of the packed row, which is text of whatever bytes there are.
fn bytes(packed: &SqliteRow, index: usize) -> sqlx::Result<&[u8]> {
    packed.try_get_unchecked::<Option<&[u8]>, _>(index).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection as _, Sqlite};

    use super::*;

    async fn fetched(setting: &str, bytes: usize) -> Option<Vec<Row>> {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let tables = Tables::named::<Sqlite>("t", false).unwrap();
        let statements = format!(
            r#"{setting}; create table {} ("offset" integer primary key, uuid, payload, metadata, created_at);
               insert into {0} values (1, '', x'00ff2c', null, '2026-11-25T08:30:00Z'), (2, x'7531', x'612c2d00ff', '{{}}', null),
                   (3, 17, null, x'7b7d', 'soon'), (5, 'u', zeroblob(1000), '{{"a":"b,"}}', null)"#,
            tables.messages()
        );
        sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut connection).await.unwrap();
        let limit = Limit { rows: 3, bytes };
        fetch(&mut connection, &tables, 1.into(), limit).await.unwrap().map(|rows| rows.rows)
    }

    #[tokio::test]
    async fn whatever_columns_hold_comes_as_it_is() {
        let rows = fetched("", 10_000).await.unwrap();
        let read: Vec<_> = rows
            .iter()
            .map(|row| {
                let message = row.message.as_ref().unwrap().message();
                let metadata = message.metadata().get("a").map(str::to_owned);
                (row.position.offset, message.id().to_string(), message.payload().clone(), metadata)
            })
            .collect();
        assert_eq!(
            read,
            [
                (2, "u1".to_owned(), b"a,-\x00\xff".to_vec().into(), None),
                (3, "17".to_owned(), "".into(), None),
                (5, "u".to_owned(), vec![0; 1_000].into(), Some("b,".to_owned())),
            ]
        );
    }

    #[tokio::test]
    async fn what_is_too_large_or_in_another_encoding_is_left_to_a_fetch_row_by_row() {
        assert!(fetched("", 1_000).await.is_none());
        assert!(fetched("pragma encoding = 'UTF-16'", 10_000).await.is_none());
    }
}
