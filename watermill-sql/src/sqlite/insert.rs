//! Writing rows.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection};

use crate::{SqlPublisherConfig, marshaler::Record, publisher::InsertDialect, schema::Found, topic::Tables};

/// Statements up to this many rows are worth a place in the connection's cache of prepared ones.
const CACHED_ROWS_MAX: usize = 100;

/// What a layout's insert names beside what every layout has.
struct Extra<'a> {
    columns: &'a str,
    values: &'a str,
    /// How many of the values are the due time.
    due: usize,
}

#[async_trait]
impl InsertDialect for Sqlite {
    /// Far below the limit of 32,766 bound values: longer statements gain nothing more.
    const INSERT_ROWS_MAX: usize = 1_000;
    const DUE_MS_MAX: i64 = i64::MAX;

    async fn insert(
        connection: &mut SqliteConnection,
        tables: &Tables,
        records: &[Record],
        _config: &SqlPublisherConfig,
        _asks: bool,
    ) -> sqlx::Result<bool> {
        let extra = Extra { columns: "", values: "", due: 0 };
        insert_into(connection, tables, records, &extra).await
    }

    async fn enqueue(
        connection: &mut SqliteConnection,
        tables: &Tables,
        records: &[Record],
        _config: &SqlPublisherConfig,
        found: Found,
        _asks: bool,
    ) -> sqlx::Result<bool> {
        // That a log has no `acked` keeps messages for a queue out of one.
        let extra = match found.due {
            true => Extra { columns: ", acked, due_ms", values: ", false, coalesce(?, 0)", due: 1 },
            false => Extra { columns: ", acked", values: ", false", due: 0 },
        };
        insert_into(connection, tables, records, &extra).await
    }
}

async fn insert_into(
    connection: &mut SqliteConnection,
    tables: &Tables,
    records: &[Record],
    extra: &Extra<'_>,
) -> sqlx::Result<bool> {
    let values = format!("(?, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), ?, ?{})", extra.values);
    let mut statement = format!(
        "insert into {} (uuid, created_at, payload, metadata{}) values ",
        tables.messages(),
        extra.columns
    );
    statement.reserve(records.len() * (values.len() + 1));
    for at in 0..records.len() {
        if at > 0 {
            statement.push(',');
        }
        statement.push_str(&values);
    }
    let mut query = sqlx::query(AssertSqlSafe(statement)).persistent(records.len() <= CACHED_ROWS_MAX);
    for record in records {
        query = query.bind(record.uuid.as_str()).bind(&record.payload[..]).bind(record.metadata.as_str());
        for _ in 0..extra.due {
            query = query.bind(record.due_ms);
        }
    }
    query.execute(connection).await.map(|_| false)
}
