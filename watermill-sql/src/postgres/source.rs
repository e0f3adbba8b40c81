//! Tables that are not ours.

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _};
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row as _, postgres::PgRow};

use super::{rows::bytes, schema, zone};
use crate::{
    PayloadColumn,
    error::Failure,
    position::Position,
    schema::SchemaDialect as _,
    source::{self, Kind, Mapping, Passed, SourceColumn, SourceDialect, SourceRow, SqlSource},
    stored::{Limit, Row, Rows, Store},
    topic::Tables,
};

#[async_trait]
impl SourceDialect for Postgres {
    async fn source_columns(
        connection: &mut PgConnection,
        source: &SqlSource,
    ) -> sqlx::Result<Vec<SourceColumn>> {
        let columns: Vec<(String, String, String)> = sqlx::query_as(
            "select a.attname::text, t.typcategory::text, format_type(a.atttypid, a.atttypmod)
             from pg_attribute a join pg_type t on t.oid = a.atttypid
             where a.attrelid = to_regclass(coalesce(quote_ident($1) || '.', '') || quote_ident($2))
               and a.attnum > 0 and not a.attisdropped order by a.attnum",
        )
        .bind(&source.schema)
        .bind(&source.table)
        .fetch_all(connection)
        .await?;
        Ok(columns
            .into_iter()
            .map(|(name, category, type_name)| SourceColumn {
                name,
                kind: kind(&category, &type_name),
                type_name,
                length_max: None,
            })
            .collect())
    }

    fn bytes_of(column: &SourceColumn, quoted: &str) -> String {
        match column.kind {
            Kind::Bytes => quoted.to_owned(),
            _ => format!("{quoted}::text"),
        }
    }

    fn text_of(column: &SourceColumn, quoted: &str) -> String {
        match column.kind {
            Kind::Bytes => format!("encode({quoted}, 'hex')"),
            _ => format!("{quoted}::text"),
        }
    }

    /// As of our own tables: what is compressed is not looked into.
    fn size_of(column: &SourceColumn, quoted: &str) -> String {
        let size = match column.kind {
            Kind::Bytes => format!("octet_length({quoted})"),
            _ => format!("octet_length({quoted}::text)"),
        };
        format!(
            "(case when coalesce(pg_column_size({quoted}), 0) <= 256 then coalesce(pg_column_size({quoted}), 0) else {size} end)::bigint"
        )
    }

    fn ms_of(column: &SourceColumn, quoted: &str) -> Option<String> {
        let type_name = &column.type_name;
        let is_of_a_day = type_name.starts_with("time ") || type_name.starts_with("time(");
        let moment = match type_name.ends_with("with time zone") {
            _ if column.kind != Kind::Time || is_of_a_day => return None,
            true => quoted.to_owned(),
            false => zone::moment_of(quoted),
        };
        // The end of all times is no number.
        Some(format!("(case when isfinite({quoted}) then extract(epoch from {moment}) * 1000 end)::bigint"))
    }

    const NO_MS: &str = "null::bigint";

    fn mark_of(kind: Kind) -> &'static str {
        match kind {
            Kind::Boolean => "true",
            Kind::Integer => "1",
            _ => "current_timestamp",
        }
    }

    async fn create_claims(connection: &mut PgConnection, tables: &Tables) -> sqlx::Result<()> {
        Self::create_queue(connection, tables, PayloadColumn::Bytes).await?;
        let messages = tables.messages();
        let claims = format!(
            "do $watermill$ begin
                if not exists (
                    select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
                    where i.indrelid = '{messages}'::regclass and a.attname = 'uuid'
                ) then
                    alter table {messages} alter column uuid type text;
                    create unique index on {messages} (uuid);
                end if;
            end $watermill$"
        );
        schema::create(connection, tables, claims).await
    }

    async fn unclaimed(
        connection: &mut PgConnection,
        tables: &Tables,
        mapping: &Mapping,
        limit: usize,
    ) -> sqlx::Result<Vec<String>> {
        let Mapping { table, id_text, order_by, .. } = mapping;
        sqlx::query_scalar(AssertSqlSafe(format!(
            "select {id_text} from {table} where {} and {} and not exists (
                 select from {} claimed where claimed.uuid = {id_text}
             ) order by {order_by} limit $1",
            mapping.is_unmarked(),
            format_args!("{} is not null", mapping.id),
            tables.messages(),
        )))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(connection)
        .await
    }

    async fn add_claims(connection: &mut PgConnection, tables: &Tables, ids: &[String]) -> sqlx::Result<()> {
        sqlx::query(AssertSqlSafe(format!(
            "insert into {} (uuid) select unnest($1::text[]) on conflict (uuid) do nothing",
            tables.messages()
        )))
        .bind(ids)
        .execute(connection)
        .await
        .map(drop)
    }

    async fn rows_by_id(
        connection: &mut PgConnection,
        mapping: &Mapping,
        ids: &[String],
    ) -> sqlx::Result<Vec<SourceRow>> {
        let mut store = Store::default();
        sqlx::query(AssertSqlSafe(by_id(mapping, &format!("0::bigint, {}", mapping.columns))))
            .bind(ids)
            .fetch(connection)
            .map(|row| {
                let row = row?;
                Ok(SourceRow { id: row.try_get(1)?, row: read(&row, mapping, &mut store)? })
            })
            .try_collect()
            .await
    }

    async fn sizes_by_id(
        connection: &mut PgConnection,
        mapping: &Mapping,
        ids: &[String],
    ) -> sqlx::Result<Vec<(String, i64)>> {
        let sizes = by_id(mapping, &format!("{}, {}", mapping.id_text, mapping.bytes));
        sqlx::query_as(AssertSqlSafe(sizes)).bind(ids).fetch_all(connection).await
    }

    async fn ids_there(
        connection: &mut PgConnection,
        mapping: &Mapping,
        ids: &[String],
    ) -> sqlx::Result<Vec<String>> {
        sqlx::query_scalar(AssertSqlSafe(by_id(mapping, &mapping.id_text)))
            .bind(ids)
            .fetch_all(connection)
            .await
    }

    async fn pass(connection: &mut PgConnection, mapping: &Mapping, passed: Passed<'_>) -> sqlx::Result<()> {
        let Some(passing) = mapping.passing() else { return Ok(()) };
        let condition = match passed {
            Passed::Offsets(_) => format!("{} = any($1::bigint[])", mapping.offset),
            Passed::Ids(_) => format!("{} = any({})", mapping.id, ids_of(mapping)),
        };
        let query = sqlx::query(AssertSqlSafe(format!("{passing} where {condition}")));
        let query = match passed {
            Passed::Offsets(offsets) => query.bind(offsets),
            Passed::Ids(ids) => query.bind(ids),
        };
        query.execute(connection).await.map(drop)
    }

    async fn forget_claims(
        connection: &mut PgConnection,
        tables: &Tables,
        mapping: &Mapping,
        limit: usize,
    ) -> sqlx::Result<()> {
        let (claims, table) = (tables.messages(), &mapping.table);
        let id = match mapping.id_is_bytes {
            true => "decode(c.uuid, 'hex')".to_owned(),
            false => format!("c.uuid::{}", mapping.id_type),
        };
        sqlx::query(AssertSqlSafe(format!(
            r#"delete from {claims} where "offset" = any(array(
                   select c."offset" from {claims} c
                   where c.acked and not exists (select from {table} s where s.{} = {id}) limit {limit}
               ))"#,
            mapping.id
        )))
        .execute(connection)
        .await
        .map(drop)
    }

    /// The cursor checks it.
    async fn check_order(_connection: &mut PgConnection, _mapping: &Mapping) -> Result<(), Failure> {
        Ok(())
    }
}

/// The rows with offsets above `after` and up to `up_to`, in the order of offsets.
pub(super) async fn by_offset(
    connection: &mut PgConnection,
    mapping: &Mapping,
    after: i64,
    up_to: i64,
    limit: Limit,
) -> sqlx::Result<Rows> {
    let mut store = Store::default();
    let rows = sqlx::query(AssertSqlSafe(format!(
        "select {offset}::bigint, {} from {} where {offset} > $1 and {offset} <= $2 order by {offset} limit $3",
        mapping.columns,
        mapping.table,
        offset = mapping.offset,
    )))
    .bind(after)
    .bind(up_to)
    .bind(i64::try_from(limit.rows).unwrap_or(i64::MAX))
    .fetch(connection)
    .map(|row| read(&row?, mapping, &mut store));
    Rows::gather(rows, limit).await
}

fn read(row: &PgRow, mapping: &Mapping, store: &mut Store) -> sqlx::Result<Row> {
    Ok(Row {
        position: Position::from(row.try_get::<i64, _>(0)?),
        published_at: source::moment(row.try_get(source::PUBLISHED_MS + 1)?),
        message: mapping.keep(store, |column| bytes(row, column + 1))?,
    })
}

/// What there is of the rows with the ids of the first parameter.
fn by_id(mapping: &Mapping, columns: &str) -> String {
    let Mapping { table, id, .. } = mapping;
    format!(
        "select {columns} from {table} where {id} = any({}) and {}",
        ids_of(mapping),
        mapping.is_unmarked()
    )
}

/// The ids of the first parameter, as the column has them.
fn ids_of(mapping: &Mapping) -> String {
    match mapping.id_is_bytes {
        true => "array(select decode(id, 'hex') from unnest($1::text[]) given (id))".to_owned(),
        false => format!("$1::text[]::{}[]", mapping.id_type),
    }
}

fn kind(category: &str, type_name: &str) -> Kind {
    match (category, type_name) {
        (_, "bytea") => Kind::Bytes,
        (_, "smallint" | "integer" | "bigint") => Kind::Integer,
        ("B", _) => Kind::Boolean,
        ("D", _) => Kind::Time,
        _ => Kind::Text,
    }
}
