//! The tables. Columns are Go's; defaults are ours, and let plain SQL leave them out.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, PgConnection, Postgres};
use watermill_core::metadata_keys;

use crate::{
    PayloadColumn,
    connection::LOCK_SECS_MAX,
    schema::{HOLDS_KEY, SchemaDialect},
    topic::{CHECKPOINTS, LEASES, Tables},
};

/// Two transactions that create the same table at once collide in the catalogue, `if not exists` or
/// not; so they queue for this lock first. The number is the ASCII of `wtrmll`.
const CREATING: i64 = 0x7774_726d_6c6c;

#[async_trait]
impl SchemaDialect for Postgres {
    const LEASES_COLUMNS_ADDED: &[(&str, &str)] = &[
        ("version", "int not null default 1"),
        ("told_token", "bigint"),
        ("lease_ms", "bigint"),
        ("connection", "text"),
        ("read_offset", "bigint"),
        ("read_row", "text"),
    ];

    async fn alter(connection: &mut PgConnection, statement: String) -> sqlx::Result<()> {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await.map(drop)
    }

    async fn columns(connection: &mut PgConnection, table: &str) -> sqlx::Result<Vec<String>> {
        sqlx::query_scalar(
            "select attname::text from pg_attribute
             where attrelid = to_regclass(case when left($1, 1) = '\"' then $1 else quote_ident($1) end)
               and attnum > 0 and not attisdropped",
        )
        .bind(table)
        .fetch_all(connection)
        .await
    }

    async fn writable_columns(connection: &mut PgConnection, table: &str) -> sqlx::Result<Vec<String>> {
        sqlx::query_scalar(
            "select attname::text from pg_attribute
             where attrelid = to_regclass(case when left($1, 1) = '\"' then $1 else quote_ident($1) end)
               and attnum > 0 and not attisdropped and attgenerated = '' and attidentity <> 'a'",
        )
        .bind(table)
        .fetch_all(connection)
        .await
    }

    async fn payload_column(connection: &mut PgConnection, tables: &Tables) -> sqlx::Result<PayloadColumn> {
        let holds_bytes: bool = sqlx::query_scalar(
            "select exists (select from pg_attribute where attrelid = to_regclass($1)
                                and attname = 'payload' and atttypid = 'bytea'::regtype)",
        )
        .bind(tables.messages())
        .fetch_one(connection)
        .await?;
        Ok(if holds_bytes { PayloadColumn::Bytes } else { PayloadColumn::Json })
    }

    /// The index on the offset alone is what Go's tables lack; reading by lock holders needs it.
    async fn create_messages(
        connection: &mut PgConnection,
        tables: &Tables,
        payload: PayloadColumn,
    ) -> sqlx::Result<()> {
        let payload = payload_type(payload);
        create(
            connection,
            tables,
            format!(
                r#"create table if not exists {} (
                    "offset" bigserial not null unique,
                    uuid varchar(36) not null default gen_random_uuid()::text,
                    created_at timestamp not null default current_timestamp,
                    payload {payload},
                    metadata json,
                    transaction_id xid8 not null default pg_current_xact_id(),
                    primary key (transaction_id, "offset")
                )"#,
                tables.messages()
            ),
        )
        .await
    }

    async fn create_queue(
        connection: &mut PgConnection,
        tables: &Tables,
        payload: PayloadColumn,
    ) -> sqlx::Result<()> {
        let messages = tables.messages();
        let create = format!(
            r#"create table {messages} (
                "offset" bigserial not null primary key,
                uuid varchar(36) not null default gen_random_uuid()::text,
                payload {},
                metadata json,
                acked boolean not null default false,
                created_at timestamp with time zone not null default current_timestamp,
                {}
            )"#,
            payload_type(payload),
            QUEUE_COLUMNS.join(", "),
        );
        let statements = format!("{create}; {}", finish_queue(&messages));
        unless_there(connection, tables, "offset", &statements).await
    }

    /// That the columns are filled with a constant makes it a matter of moments; only then new rows get their
    /// times. The index takes a second for a million rows.
    async fn adopt_queue(connection: &mut PgConnection, tables: &Tables) -> sqlx::Result<()> {
        let messages = tables.messages();
        let columns = QUEUE_COLUMNS.map(|column| format!("add column if not exists {column}")).join(", ");
        let adopt = format!("alter table {messages} {columns}; {}", finish_queue(&messages));
        change(connection, tables, "due_ms", &adopt).await
    }

    /// Rows that hold a key are in the one index, and those that do not in the other. The key is a hash, because an index
    /// holds no text of any length. The text of a NUL is none to PostgreSQL.
    fn order_queue(tables: &Tables) -> Vec<String> {
        let messages = tables.messages();
        let entry = |name: &str| format!(r"replace(metadata::text, '\u0000', '\u0001')::json ->> '{name}'");
        vec![
            format!(
                r#"alter table {messages} add column ordering_key bigint generated always as (
                       hashtextextended(coalesce({}, {}), 0)) stored, add column holds_key bigint"#,
                entry(metadata_keys::KEY),
                entry(metadata_keys::KEY_BASE64),
            ),
            format!(
                r#"create index on {messages} (ordering_key, "offset")
                   where not acked and ordering_key is not null and holds_key is null"#
            ),
            format!("create unique index on {messages} (holds_key) where holds_key is not null"),
        ]
    }

    /// The first has every row written anew.
    async fn add_order(connection: &mut PgConnection, tables: &Tables) -> sqlx::Result<()> {
        let statements = Self::order_queue(tables).join("; ").replace('\'', "''");
        change(connection, tables, HOLDS_KEY, &statements).await
    }

    async fn create_offsets(connection: &mut PgConnection, tables: &Tables) -> sqlx::Result<()> {
        create(
            connection,
            tables,
            format!(
                "create table if not exists {} (
                    consumer_group varchar(255) not null primary key,
                    offset_acked bigint,
                    last_processed_transaction_id xid8 not null
                )",
                tables.offsets()
            ),
        )
        .await
    }

    async fn create_leases(connection: &mut PgConnection) -> sqlx::Result<()> {
        create_all(
            connection,
            format!(
                "create table if not exists {LEASES} (
                    topic text not null,
                    consumer_group text not null,
                    owner text,
                    token bigint not null,
                    expires_at_ms bigint not null,
                    progress text not null default '',
                version int not null default 1,
                told_token bigint, -- of whose owner the next two tell
                lease_ms bigint,
                connection text,
                read_offset bigint, -- the row that was read last
                read_row text,
                    primary key (topic, consumer_group)
                )"
            ),
        )
        .await
    }

    async fn create_checkpoints(connection: &mut PgConnection) -> sqlx::Result<()> {
        create_all(
            connection,
            format!(
                "create table if not exists {CHECKPOINTS} (
                    name text not null primary key,
                    owner text not null,
                    checkpoint bytea
                )"
            ),
        )
        .await
    }
}

/// The columns beside Go's, and the index that serves claims, however many rows are marked or wait. The
/// server chooses the name of the index: ours could be cut to that of another.
const QUEUE_COLUMNS: [&str; 3] =
    ["owner text", "due_ms bigint not null default 0", "attempts int not null default 0"];

fn finish_queue(messages: &str) -> String {
    format!(r#"create index on {messages} (due_ms, "offset") where not acked"#)
}

/// Runs statements unless the messages table has a column.
async fn unless_there(
    connection: &mut PgConnection,
    tables: &Tables,
    column: &str,
    statements: &str,
) -> sqlx::Result<()> {
    create(connection, tables, format!("do 'begin {} end'", unless(tables, column, statements))).await
}

/// Changes a table that has rows unless it has a column. It may take long: of those that do so at once each waits for the one
/// before it, and those that make or change other tables do not; nor does anybody wait for long behind it while others have
/// the table locked.
async fn change(
    connection: &mut PgConnection,
    tables: &Tables,
    column: &str,
    statements: &str,
) -> sqlx::Result<()> {
    let (messages, change) = (tables.messages(), unless(tables, column, statements));
    let change = format!(
        "do 'begin
            perform pg_advisory_xact_lock(hashtextextended(''{messages}'', {CREATING}));
            perform set_config(''lock_timeout'', ''{LOCK_SECS_MAX}s'', true);
            {change}
        end'"
    );
    sqlx::raw_sql(AssertSqlSafe(change)).execute(connection).await.map(drop)
}

/// The catalogue is read with a snapshot, because what the session remembers of it may be from before it had the lock. No
/// name that can stand here has a quote in it.
fn unless(tables: &Tables, column: &str, statements: &str) -> String {
    format!(
        "if not exists (
            select from pg_attribute where attrelid = to_regclass(''{}'') and attname = ''{column}''
        ) then {statements}; end if;",
        tables.messages()
    )
}

fn payload_type(payload: PayloadColumn) -> &'static str {
    match payload {
        PayloadColumn::Json => "json",
        PayloadColumn::Bytes => "bytea",
    }
}

/// All statements go in one message, which is one transaction unless the caller has begun one. A schema that the topic
/// names is made like its tables.
pub(super) async fn create(
    connection: &mut PgConnection,
    tables: &Tables,
    statement: String,
) -> sqlx::Result<()> {
    let schema = match tables.schema() {
        Some(schema) => format!(
            "do 'begin if to_regnamespace(''{schema}'') is null then create schema {schema}; end if; end';"
        ),
        None => String::new(),
    };
    create_all(connection, format!("{schema} {statement}")).await
}

pub(super) async fn create_all(connection: &mut PgConnection, statement: String) -> sqlx::Result<()> {
    let statements = format!("select pg_advisory_xact_lock({CREATING}); {statement}");
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(connection).await.map(drop)
}
