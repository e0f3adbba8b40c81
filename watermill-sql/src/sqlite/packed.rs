//! Rows that come many in one.
//!
//! The driver has a thread for each connection, which hands row after row to the task that waits for it, with copies of
//! their columns. That takes several times as long as SQLite takes to find them. So a fetch asks for one row, with each
//! column of all rows in one text.

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

/// In the place of a null.
const NULL: &str = "-";

/// The next rows, in the order of offsets, or `None` when they are too large for that, or text is not as it is sent.
pub(super) async fn fetch(
    connection: &mut SqliteConnection,
    tables: &Tables,
    after: Position,
    limit: Limit,
) -> sqlx::Result<Option<Rows>> {
    let messages = tables.messages();
    // Sizes are known without reading what is so large. Hexadecimal, for columns hold whatever somebody has put there.
    let packed = sqlx::query(AssertSqlSafe(format!(
        r#"with sizes as materialized (
               select count(*) as n, coalesce(sum(bytes), 0) as bytes from (
                   select coalesce(octet_length(uuid), 0) + coalesce(octet_length(payload), 0)
                          + coalesce(octet_length(metadata), 0) + coalesce(octet_length(created_at), 0) as bytes
                   from {messages} where "offset" > ?1 order by "offset" limit ?2
               )
           )
           select (select n from sizes), group_concat("offset"), group_concat(hex(uuid)),
                  group_concat(hex(payload)), group_concat(iif(metadata is null, '{NULL}', hex(metadata))),
                  group_concat(hex(created_at))
           from (
               select "offset", uuid, payload, metadata, created_at from {messages}
               where "offset" > ?1 and (select bytes from sizes) <= ?3 and (select encoding from pragma_encoding) = 'UTF-8'
               order by "offset" limit ?2
           )"#,
    )))
    .bind(after.offset)
    .bind(i64::try_from(limit.rows).unwrap_or(i64::MAX))
    .bind(i64::try_from(limit.bytes.min(PACKED_BYTES_MAX)).unwrap_or(i64::MAX))
    .fetch_one(connection)
    .await?;
    let rows = unpack(&packed)?;
    let found: i64 = packed.try_get(0)?;
    Ok((found == 0 || !rows.is_empty()).then_some(Rows { rows, is_cut: false }))
}

fn unpack(packed: &SqliteRow) -> sqlx::Result<Vec<Row>> {
    let column = |index| packed.try_get_unchecked::<Option<&str>, _>(index).map(Option::unwrap_or_default);
    let offsets = column(1)?;
    if offsets.is_empty() {
        return Ok(Vec::new());
    }
    let [uuids, payloads, metadata, moments] = [column(2)?, column(3)?, column(4)?, column(5)?];
    let columns = payloads.split(',').zip(metadata.split(',')).zip(moments.split(','));
    let (mut uuid_bytes, mut payload_bytes, mut other_bytes) = (Vec::new(), Vec::new(), Vec::new());
    let (mut store, mut rows) = (Store::default(), Vec::new());
    for ((offset, uuid), ((payload, metadata), moment_text)) in
        offsets.split(',').zip(uuids.split(',')).zip(columns)
    {
        let offset: i64 = offset.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        decode(uuid, &mut uuid_bytes);
        decode(payload, &mut payload_bytes);
        decode(moment_text, &mut other_bytes);
        let published_at = moment(&other_bytes);
        decode(metadata, &mut other_bytes);
        let metadata = (metadata != NULL).then_some(&other_bytes[..]);
        let columns = Columns { uuid: &uuid_bytes, payload: &payload_bytes, metadata };
        rows.push(Row { position: offset.into(), published_at, message: store.keep(columns) });
    }
    // SQLite does not promise in which order it aggregates.
    rows.sort_unstable_by_key(|row| row.position.offset);
    Ok(rows)
}

/// What was written as hexadecimal digits, by SQLite, which knows no others than these.
fn decode(text: &str, bytes: &mut Vec<u8>) {
    const DIGITS: [u8; 256] = {
        let mut digits = [0; 256];
        let mut value = 0;
        while value < 16 {
            digits[b"0123456789ABCDEF"[value] as usize] = value as u8;
            value += 1;
        }
        digits
    };
    bytes.clear();
    let (pairs, _) = text.as_bytes().as_chunks();
    bytes.extend(pairs.iter().map(|[high, low]| DIGITS[usize::from(*high)] << 4 | DIGITS[usize::from(*low)]));
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
               insert into {0} values (1, '', x'00ff2c', null, '2026-11-25T08:30:00Z'), (2, x'7531', 'a,-', '{{}}', null),
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
                (2, "u1".to_owned(), "a,-".into(), None),
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
