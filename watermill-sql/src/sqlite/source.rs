//! Tables that are not ours.

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _};
use sqlx::{AssertSqlSafe, Row as _, Sqlite, SqliteConnection, sqlite::SqliteRow};

use crate::{
    PayloadColumn,
    error::{Failure, Trouble, classify},
    position::Position,
    queue::json,
    schema::SchemaDialect as _,
    source::{self, Kind, Mapping, Passed, SourceColumn, SourceDialect, SourceRow, SqlSource},
    stored::{Limit, Row, Rows, Store},
    topic::Tables,
};

#[async_trait]
impl SourceDialect for Sqlite {
    async fn source_columns(
        connection: &mut SqliteConnection,
        source: &SqlSource,
    ) -> sqlx::Result<Vec<SourceColumn>> {
        let columns: Vec<(String, String)> =
            sqlx::query_as("select name, type from pragma_table_info(?1, coalesce(?2, 'main'))")
                .bind(&source.table)
                .bind(&source.schema)
                .fetch_all(connection)
                .await?;
        Ok(columns
            .into_iter()
            .map(|(name, type_name)| SourceColumn {
                name,
                kind: kind(&type_name),
                type_name,
                length_max: None,
            })
            .collect())
    }

    /// Text is bytes here, and numbers become the bytes of their text.
    fn bytes_of(_column: &SourceColumn, quoted: &str) -> String {
        format!("cast({quoted} as blob)")
    }

    fn text_of(column: &SourceColumn, quoted: &str) -> String {
        match column.kind {
            Kind::Bytes => format!("lower(hex({quoted}))"),
            _ => format!("cast({quoted} as text)"),
        }
    }

    fn size_of(_column: &SourceColumn, quoted: &str) -> String {
        format!("coalesce(length(cast({quoted} as blob)), 0)")
    }

    /// Text, as the functions of dates take.
    fn ms_of(column: &SourceColumn, quoted: &str) -> Option<String> {
        matches!(column.kind, Kind::Text | Kind::Time)
            .then(|| format!("cast(unixepoch({quoted}, 'subsec') * 1000 as integer)"))
    }

    const NO_MS: &str = "null";

    fn mark_of(kind: Kind) -> &'static str {
        match kind {
            Kind::Boolean | Kind::Integer => "1",
            _ => "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')",
        }
    }

    async fn create_claims(connection: &mut SqliteConnection, tables: &Tables) -> sqlx::Result<()> {
        Self::create_queue(connection, tables, PayloadColumn::Bytes).await?;
        let index = format!(
            r#"create unique index if not exists "_watermill_claimed_{}" on {} (uuid)"#,
            tables.topic(),
            tables.messages()
        );
        Self::alter(connection, index).await
    }

    async fn unclaimed(
        connection: &mut SqliteConnection,
        tables: &Tables,
        mapping: &Mapping,
        limit: usize,
    ) -> sqlx::Result<Vec<String>> {
        let Mapping { table, id, id_text, order_by, .. } = mapping;
        sqlx::query_scalar(AssertSqlSafe(format!(
            "select {id_text} from {table} where {} and {id} is not null and not exists (
                 select 1 from {} claimed where claimed.uuid = {id_text}
             ) order by {order_by} limit ?",
            mapping.is_unmarked(),
            tables.messages(),
        )))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(connection)
        .await
    }

    async fn add_claims(
        connection: &mut SqliteConnection,
        tables: &Tables,
        ids: &[String],
    ) -> sqlx::Result<()> {
        sqlx::query(AssertSqlSafe(format!(
            "insert into {} (uuid) select value from json_each(?) where true on conflict (uuid) do nothing",
            tables.messages()
        )))
        .bind(json(&ids))
        .execute(connection)
        .await
        .map(drop)
    }

    async fn rows_by_id(
        connection: &mut SqliteConnection,
        mapping: &Mapping,
        ids: &[String],
    ) -> sqlx::Result<Vec<SourceRow>> {
        let mut store = Store::default();
        sqlx::query(AssertSqlSafe(by_id(mapping, &format!("0, {}", mapping.columns))))
            .bind(json(&ids))
            .fetch(connection)
            .map(|row| {
                let row = row?;
                Ok(SourceRow { id: row.try_get(1)?, row: read(&row, mapping, &mut store)? })
            })
            .try_collect()
            .await
    }

    async fn ids_there(
        connection: &mut SqliteConnection,
        mapping: &Mapping,
        ids: &[String],
    ) -> sqlx::Result<Vec<String>> {
        sqlx::query_scalar(AssertSqlSafe(by_id(mapping, &mapping.id_text)))
            .bind(json(&ids))
            .fetch_all(connection)
            .await
    }

    async fn sizes_by_id(
        connection: &mut SqliteConnection,
        mapping: &Mapping,
        ids: &[String],
    ) -> sqlx::Result<Vec<(String, i64)>> {
        let sizes = by_id(mapping, &format!("{}, {}", mapping.id_text, mapping.bytes));
        sqlx::query_as(AssertSqlSafe(sizes)).bind(json(&ids)).fetch_all(connection).await
    }

    async fn pass(
        connection: &mut SqliteConnection,
        mapping: &Mapping,
        passed: Passed<'_>,
    ) -> sqlx::Result<()> {
        let Some(passing) = mapping.passing() else { return Ok(()) };
        let (condition, passed) = match passed {
            Passed::Offsets(offsets) => {
                (format!("{} in (select value from json_each(?))", mapping.offset), json(&offsets))
            }
            Passed::Ids(ids) => (format!("{} in ({})", mapping.id, ids_of(mapping)), json(&ids)),
        };
        let statement = format!("{passing} where {condition}");
        sqlx::query(AssertSqlSafe(statement)).bind(passed).execute(connection).await.map(drop)
    }

    async fn forget_claims(
        connection: &mut SqliteConnection,
        tables: &Tables,
        mapping: &Mapping,
        limit: usize,
    ) -> sqlx::Result<()> {
        let id = if mapping.id_is_bytes { "unhex(c.uuid)" } else { "c.uuid" };
        sqlx::query(AssertSqlSafe(format!(
            r#"delete from {claims} where "offset" in (
                   select c."offset" from {claims} c
                   where c.acked and not exists (select 1 from {} s where s.{} = {id}) limit {limit}
               )"#,
            mapping.table,
            mapping.id,
            claims = tables.messages(),
        )))
        .execute(connection)
        .await
        .map(drop)
    }

    /// The number of a row that was deleted is drawn again unless the table says `autoincrement`.
    async fn check_order(connection: &mut SqliteConnection, mapping: &Mapping) -> Result<(), Failure> {
        let column = mapping.source.offset.as_deref().unwrap_or_default();
        let schema = crate::source::quote('"', mapping.source.schema.as_deref().unwrap_or("main"));
        let counts: bool = sqlx::query_scalar(AssertSqlSafe(format!(
            "select exists (
                 select 1 from {schema}.sqlite_master m where m.type = 'table' and m.name = ?1 and m.sql like '%autoincrement%'
             ) and exists (
                 select 1 from pragma_table_info(?1, coalesce(?2, 'main')) where name = ?3 and pk = 1
             )"
        )))
        .bind(&mapping.source.table)
        .bind(&mapping.source.schema)
        .bind(column)
        .fetch_one(connection)
        .await
        .map_err(classify::<Sqlite>)?;
        match counts {
            true => Ok(()),
            false => Err(Failure::because(
                Trouble::Refused,
                format!(
                    "the column {column:?} is not `integer primary key autoincrement`, so that the number of a row \
                     that was deleted may be drawn again, and such a row would not be delivered: make it so, or work \
                     on the table as a queue, with SqlQueueSubscriberConfig::source"
                ),
            )),
        }
    }
}

/// The next rows, in the order of offsets.
pub(super) async fn fetch(
    connection: &mut SqliteConnection,
    mapping: &Mapping,
    after: i64,
    limit: Limit,
) -> sqlx::Result<Rows> {
    let mut store = Store::default();
    let rows = sqlx::query(AssertSqlSafe(format!(
        "select {offset}, {} from {} where {offset} > ? order by {offset} limit ?",
        mapping.columns,
        mapping.table,
        offset = mapping.offset,
    )))
    .bind(after)
    .bind(i64::try_from(limit.rows).unwrap_or(i64::MAX))
    .fetch(connection)
    .map(|row| read(&row?, mapping, &mut store));
    Rows::gather(rows, limit).await
}

fn read(row: &SqliteRow, mapping: &Mapping, store: &mut Store) -> sqlx::Result<Row> {
    Ok(Row {
        position: Position::from(row.try_get::<i64, _>(0)?),
        published_at: source::moment(row.try_get(source::PUBLISHED_MS + 1)?),
        message: mapping.keep(store, |column| row.try_get_unchecked(column + 1))?,
    })
}

/// What there is of the rows with the ids of the parameter.
fn by_id(mapping: &Mapping, columns: &str) -> String {
    let Mapping { table, id, .. } = mapping;
    format!("select {columns} from {table} where {id} in ({}) and {}", ids_of(mapping), mapping.is_unmarked())
}

/// The ids of the parameter, as the column has them.
fn ids_of(mapping: &Mapping) -> &'static str {
    match mapping.id_is_bytes {
        true => "select unhex(value) from json_each(?)",
        false => "select value from json_each(?)",
    }
}

/// By the rules of column affinity.
fn kind(type_name: &str) -> Kind {
    let type_name = type_name.to_ascii_lowercase();
    match &*type_name {
        _ if type_name.contains("int") => Kind::Integer,
        "blob" => Kind::Bytes,
        _ if type_name.contains("bool") => Kind::Boolean,
        _ => Kind::Text,
    }
}
