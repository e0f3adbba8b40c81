//! Tables that are not ours.

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _};
use sqlx::{
    AssertSqlSafe, MySql, MySqlConnection, Row as _,
    mysql::{MySqlDatabaseError, MySqlRow},
};

use super::rows::bytes;
use crate::{
    PayloadColumn,
    error::{Failure, Trouble, classify},
    position::Position,
    schema::SchemaDialect as _,
    source::{self, Kind, Mapping, Passed, SourceColumn, SourceDialect, SourceRow, SqlSource},
    stored::{Limit, Row, Rows, Store},
    topic::Tables,
};

/// The longest id, in characters: the width of the column that a claim has for it.
const ID_CHARS_MAX: u64 = 255;

/// The server's numbers of a key that is there, and of an index that is.
const DUPLICATE: u16 = 1062;
const INDEX_IS_THERE: u16 = 1061;

#[async_trait]
impl SourceDialect for MySql {
    async fn source_columns(
        connection: &mut MySqlConnection,
        source: &SqlSource,
    ) -> sqlx::Result<Vec<SourceColumn>> {
        let columns: Vec<(String, String, String, Option<i64>)> = sqlx::query_as(
            "select cast(column_name as char), lower(cast(data_type as char)), cast(column_type as char),
                    cast(least(character_maximum_length, 4294967295) as signed)
             from information_schema.columns
             where table_schema = coalesce(?, database()) and table_name = ? order by ordinal_position",
        )
        .bind(&source.schema)
        .bind(&source.table)
        .fetch_all(connection)
        .await?;
        Ok(columns
            .into_iter()
            .map(|(name, data_type, type_name, length_max)| SourceColumn {
                name,
                kind: kind(&data_type, &type_name),
                type_name,
                length_max: length_max.and_then(|length| u64::try_from(length).ok()),
            })
            .collect())
    }

    fn bytes_of(column: &SourceColumn, quoted: &str) -> String {
        match column.kind {
            Kind::Bytes => quoted.to_owned(),
            _ => format!("cast({quoted} as char)"),
        }
    }

    fn text_of(column: &SourceColumn, quoted: &str) -> String {
        match column.kind {
            Kind::Bytes => format!("lower(hex({quoted}))"),
            _ => format!("cast({quoted} as char)"),
        }
    }

    fn size_of(_column: &SourceColumn, quoted: &str) -> String {
        format!("coalesce(length({quoted}), 0)")
    }

    /// A timestamp is a moment, and is told in the session's zone; a datetime is text in the server's.
    fn ms_of(column: &SourceColumn, quoted: &str) -> Option<String> {
        let utc = match column.type_name.split('(').next()?.trim() {
            "timestamp" => format!("convert_tz({quoted}, @@session.time_zone, '+00:00')"),
            "datetime" | "date" => format!("convert_tz({quoted}, @@global.time_zone, '+00:00')"),
            _ => return None,
        };
        Some(format!("cast(timestampdiff(microsecond, '1970-01-01', {utc}) div 1000 as signed)"))
    }

    const NO_MS: &str = "cast(null as signed)";

    const ID_CHARS_MAX: Option<u64> = Some(ID_CHARS_MAX);

    fn mark_of(kind: Kind) -> &'static str {
        match kind {
            Kind::Boolean | Kind::Integer => "1",
            _ => "current_timestamp(6)",
        }
    }

    async fn create_claims(connection: &mut MySqlConnection, tables: &Tables) -> sqlx::Result<()> {
        Self::create_queue(connection, tables, PayloadColumn::Bytes).await?;
        let indexed: i64 = sqlx::query_scalar(
            "select count(*) from information_schema.statistics
             where table_schema = database() and table_name = ? and column_name = 'uuid' and non_unique = 0",
        )
        .bind(tables.messages_name())
        .fetch_one(&mut *connection)
        .await?;
        if indexed > 0 {
            return Ok(());
        }
        let index = format!(
            "alter table {} modify uuid varchar({ID_CHARS_MAX}) character set utf8mb4 collate utf8mb4_bin not null,
             add unique index claimed (uuid)",
            tables.messages()
        );
        match Self::alter(connection, index).await {
            // Of several that do so at once one succeeds.
            Err(error) if number(&error) == Some(INDEX_IS_THERE) => Ok(()),
            altered => altered,
        }
    }

    async fn unclaimed(
        connection: &mut MySqlConnection,
        tables: &Tables,
        mapping: &Mapping,
        limit: usize,
    ) -> sqlx::Result<Vec<String>> {
        let Mapping { table, id, id_text, order_by, .. } = mapping;
        sqlx::query_scalar(AssertSqlSafe(format!(
            "select {id_text} from {table} where {} and {id} is not null and not exists (
                 select 1 from {} claimed
                 where claimed.uuid = convert({id_text} using utf8mb4) collate utf8mb4_bin
             ) order by {order_by} limit {limit}",
            mapping.is_unmarked(),
            tables.messages(),
        )))
        .fetch_all(connection)
        .await
    }

    async fn add_claims(
        connection: &mut MySqlConnection,
        tables: &Tables,
        ids: &[String],
    ) -> sqlx::Result<()> {
        let values = vec!["(?)"; ids.len()].join(", ");
        let mut query = sqlx::query(AssertSqlSafe(format!(
            "insert into {} (uuid) values {values} on duplicate key update uuid = uuid",
            tables.messages()
        )))
        .persistent(false);
        for id in ids {
            query = query.bind(id);
        }
        match query.execute(connection).await {
            // Of several workers who add and finish the same at once, the server may tell one of a key that is there
            // in spite of what it was asked to do then. What is missing is added by the next claim.
            Err(error) if number(&error) == Some(DUPLICATE) => Ok(()),
            added => added.map(drop),
        }
    }

    async fn rows_by_id(
        connection: &mut MySqlConnection,
        mapping: &Mapping,
        ids: &[String],
    ) -> sqlx::Result<Vec<SourceRow>> {
        let mut store = Store::default();
        let rows = by_id(mapping, &format!("0, {}", mapping.columns), ids.len());
        let mut query = sqlx::query(AssertSqlSafe(rows)).persistent(false);
        for id in ids {
            query = query.bind(id);
        }
        query
            .fetch(connection)
            .map(|row| {
                let row = row?;
                let id = String::from_utf8_lossy(bytes(&row, 1)?.unwrap_or_default()).into_owned();
                Ok(SourceRow { id, row: read(&row, mapping, &mut store)? })
            })
            .try_collect()
            .await
    }

    async fn sizes_by_id(
        connection: &mut MySqlConnection,
        mapping: &Mapping,
        ids: &[String],
    ) -> sqlx::Result<Vec<(String, i64)>> {
        let sizes =
            by_id(mapping, &format!("{}, cast({} as signed)", mapping.id_text, mapping.bytes), ids.len());
        let mut query = sqlx::query_as(AssertSqlSafe(sizes)).persistent(false);
        for id in ids {
            query = query.bind(id);
        }
        query.fetch_all(connection).await
    }

    async fn ids_there(
        connection: &mut MySqlConnection,
        mapping: &Mapping,
        ids: &[String],
    ) -> sqlx::Result<Vec<String>> {
        let there = by_id(mapping, &mapping.id_text, ids.len());
        let mut query = sqlx::query_scalar(AssertSqlSafe(there)).persistent(false);
        for id in ids {
            query = query.bind(id);
        }
        query.fetch_all(connection).await
    }

    async fn pass(
        connection: &mut MySqlConnection,
        mapping: &Mapping,
        passed: Passed<'_>,
    ) -> sqlx::Result<()> {
        let Some(passing) = mapping.passing() else { return Ok(()) };
        let (condition, ids) = match passed {
            Passed::Offsets(offsets) => (format!("{} in ({})", mapping.offset, numbers(offsets)), &[][..]),
            Passed::Ids(ids) => (format!("{} in ({})", mapping.id, ids_of(mapping, ids.len())), ids),
        };
        let mut query = sqlx::query(AssertSqlSafe(format!("{passing} where {condition}"))).persistent(false);
        for id in ids {
            query = query.bind(id);
        }
        query.execute(connection).await.map(drop)
    }

    /// First it is looked, which locks nothing.
    async fn forget_claims(
        connection: &mut MySqlConnection,
        tables: &Tables,
        mapping: &Mapping,
        limit: usize,
    ) -> sqlx::Result<()> {
        let (claims, table) = (tables.messages(), &mapping.table);
        let gone: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(format!(
            "select c.`offset` from {claims} c left join {table} s on s.{} = {}
             where c.acked = 1 and s.{} is null limit {limit}",
            mapping.id,
            match mapping.id_is_bytes {
                true => "unhex(c.uuid)",
                false => "c.uuid",
            },
            mapping.id,
        )))
        .fetch_all(&mut *connection)
        .await?;
        if gone.is_empty() {
            return Ok(());
        }
        let delete = format!("delete from {claims} where `offset` in ({})", numbers(&gone));
        sqlx::query(AssertSqlSafe(delete)).persistent(false).execute(connection).await.map(drop)
    }

    async fn check_order(connection: &mut MySqlConnection, mapping: &Mapping) -> Result<(), Failure> {
        let column = mapping.source.offset.as_deref().unwrap_or_default();
        let counts: i64 = sqlx::query_scalar(
            "select count(*) from information_schema.columns
             where table_schema = coalesce(?, database()) and table_name = ? and column_name = ?
               and extra like '%auto_increment%'",
        )
        .bind(&mapping.source.schema)
        .bind(&mapping.source.table)
        .bind(column)
        .fetch_one(connection)
        .await
        .map_err(classify::<MySql>)?;
        match counts {
            0 => Err(Failure::because(
                Trouble::Refused,
                format!(
                    "the column {column:?} is not auto_increment, so that it cannot be known which numbers are still \
                     to come: alter it, or work on the table as a queue, with SqlQueueSubscriberConfig::source"
                ),
            )),
            _ => Ok(()),
        }
    }
}

/// The rows with offsets above `after`, in the order of offsets, with whatever gaps there are.
pub(super) async fn visible(
    connection: &mut MySqlConnection,
    mapping: &Mapping,
    after: i64,
    limit: Limit,
) -> sqlx::Result<Rows> {
    let mut store = Store::default();
    let rows = sqlx::query(AssertSqlSafe(format!(
        "select cast({offset} as signed), {} from {} where {offset} > ? order by {offset} limit ?",
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

fn read(row: &MySqlRow, mapping: &Mapping, store: &mut Store) -> sqlx::Result<Row> {
    Ok(Row {
        position: Position::from(row.try_get::<i64, _>(0)?),
        published_at: source::moment(row.try_get(source::PUBLISHED_MS + 1)?),
        message: mapping.keep(store, |column| bytes(row, column + 1))?,
    })
}

/// What there is of the rows with so many ids, which are bound.
fn by_id(mapping: &Mapping, columns: &str, count: usize) -> String {
    let Mapping { table, id, .. } = mapping;
    let ids = ids_of(mapping, count);
    format!("select {columns} from {table} where {id} in ({ids}) and {}", mapping.is_unmarked())
}

/// So many parameters, as the column of the id has them.
fn ids_of(mapping: &Mapping, count: usize) -> String {
    let parameter = match mapping.id_is_bytes {
        true => "unhex(?)",
        false => "?",
    };
    vec![parameter; count].join(", ")
}

fn numbers(numbers: &[i64]) -> String {
    numbers.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")
}

/// The server's number of an error.
fn number(error: &sqlx::Error) -> Option<u16> {
    error.as_database_error()?.try_downcast_ref().map(MySqlDatabaseError::number)
}

fn kind(data_type: &str, type_name: &str) -> Kind {
    match data_type {
        _ if type_name == "tinyint(1)" => Kind::Boolean,
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" => Kind::Integer,
        "datetime" | "timestamp" | "date" | "time" => Kind::Time,
        _ if data_type.ends_with("blob") || data_type.ends_with("binary") => Kind::Bytes,
        _ => Kind::Text,
    }
}
