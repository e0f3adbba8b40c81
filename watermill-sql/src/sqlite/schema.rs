//! The tables. Columns are Go's; defaults are ours, and let plain SQL leave them out.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Connection as _, Sqlite, SqliteConnection};
use watermill_core::metadata_keys;

use crate::{
    PayloadColumn,
    schema::{HOLDS_KEY, SchemaDialect},
    topic::{CHECKPOINTS, LEASES, Tables},
};

#[async_trait]
impl SchemaDialect for Sqlite {
    const LEASES_COLUMNS_ADDED: &[(&str, &str)] = &[
        ("version", "integer not null default 1"),
        ("told_token", "integer"),
        ("lease_ms", "integer"),
        ("read_offset", "integer"),
        ("read_row", "text"),
    ];

    async fn alter(connection: &mut SqliteConnection, statement: String) -> sqlx::Result<()> {
        execute(connection, statement).await
    }

    async fn columns(connection: &mut SqliteConnection, table: &str) -> sqlx::Result<Vec<String>> {
        sqlx::query_scalar("select name from pragma_table_info(?)").bind(table).fetch_all(connection).await
    }

    /// That function leaves generated columns out.
    async fn writable_columns(connection: &mut SqliteConnection, table: &str) -> sqlx::Result<Vec<String>> {
        Self::columns(connection, table).await
    }

    /// The column holds anything, whatever is put into it.
    async fn create_messages(
        connection: &mut SqliteConnection,
        tables: &Tables,
        _payload: PayloadColumn,
    ) -> sqlx::Result<()> {
        execute(
            connection,
            format!(
                r#"create table if not exists {} (
                    "offset" integer primary key autoincrement,
                    uuid text not null default (lower(hex(randomblob(16)))),
                    created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
                    payload blob,
                    metadata json not null default '{{}}'
                )"#,
                tables.messages()
            ),
        )
        .await
    }

    /// As Go's elsewhere, which has no queue on SQLite, with the columns that claims need.
    async fn create_queue(
        connection: &mut SqliteConnection,
        tables: &Tables,
        _payload: PayloadColumn,
    ) -> sqlx::Result<()> {
        execute(
            connection,
            format!(
                r#"create table if not exists {} (
                    "offset" integer primary key autoincrement,
                    uuid text not null default (lower(hex(randomblob(16)))),
                    created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
                    payload blob,
                    metadata json not null default '{{}}',
                    acked boolean not null default false,
                    owner text,
                    due_ms integer not null default 0,
                    attempts integer not null default 0
                )"#,
                tables.messages()
            ),
        )
        .await?;
        index_queue(connection, tables).await
    }

    /// A default that depends on the time cannot be added: rows of a writer that does not know the column
    /// come before others.
    async fn adopt_queue(connection: &mut SqliteConnection, tables: &Tables) -> sqlx::Result<()> {
        // As a writer from the beginning, so that of several that do so at once each sees what is there.
        let mut transaction = connection.begin_with("begin immediate").await?;
        let present = Self::columns(&mut transaction, &tables.messages_name()).await?;
        for (name, column) in [
            ("owner", "owner text"),
            ("attempts", "attempts integer not null default 0"),
            ("due_ms", "due_ms integer not null default 0"),
        ] {
            if !present.iter().any(|there| there == name) {
                execute(&mut transaction, format!("alter table {} add column {column}", tables.messages()))
                    .await?;
            }
        }
        index_queue(&mut transaction, tables).await?;
        transaction.commit().await
    }

    /// What is no JSON has no key.
    fn order_queue(tables: &Tables) -> Vec<String> {
        let messages = tables.messages();
        let entry = |name: &str| format!("json_extract(metadata, '$.{name}')");
        vec![
            format!(
                "alter table {messages} add column ordering_key text generated always as (
                     iif(json_valid(metadata), coalesce({}, {}), null)) virtual",
                entry(metadata_keys::KEY),
                entry(metadata_keys::KEY_BASE64),
            ),
            format!("alter table {messages} add column holds_key text"),
            format!(
                r#"create index {} on {messages} (ordering_key, "offset")
                   where not acked and ordering_key is not null"#,
                tables.key_index(),
            ),
            format!(
                "create unique index {} on {messages} (holds_key) where holds_key is not null",
                tables.hold_index(),
            ),
        ]
    }

    async fn add_order(connection: &mut SqliteConnection, tables: &Tables) -> sqlx::Result<()> {
        // As a writer from the beginning, so that of several that do so at once each sees what is there.
        let mut transaction = connection.begin_with("begin immediate").await?;
        let present = Self::columns(&mut transaction, &tables.messages_name()).await?;
        if !present.iter().any(|there| there == HOLDS_KEY) {
            for statement in Self::order_queue(tables) {
                execute(&mut transaction, statement).await?;
            }
        }
        transaction.commit().await
    }

    async fn create_offsets(connection: &mut SqliteConnection, tables: &Tables) -> sqlx::Result<()> {
        execute(
            connection,
            format!(
                "create table if not exists {} (
                    consumer_group text not null primary key,
                    offset_acked integer not null,
                    locked_until integer not null
                )",
                tables.offsets()
            ),
        )
        .await
    }

    /// A topic's tables do not tell upper case from lower case here, so neither do its leases.
    async fn create_leases(connection: &mut SqliteConnection) -> sqlx::Result<()> {
        execute(
            connection,
            format!(
                "create table if not exists {LEASES} (
                    topic text not null collate nocase,
                    consumer_group text not null,
                    owner text,
                    token integer not null,
                    expires_at_ms integer not null,
                    locked_until integer not null,
                    progress text not null default '',
                version integer not null default 1,
                told_token integer, -- of whose owner the next one tells
                lease_ms integer,
                read_offset integer, -- the row that was read last
                read_row text,
                    primary key (topic, consumer_group)
                ) without rowid"
            ),
        )
        .await
    }

    async fn create_checkpoints(connection: &mut SqliteConnection) -> sqlx::Result<()> {
        sqlx::raw_sql(AssertSqlSafe(format!(
            "create table if not exists {CHECKPOINTS} (
                name text not null primary key,
                owner text not null,
                checkpoint blob
            )"
        )))
        .execute(connection)
        .await
        .map(drop)
    }
}

async fn index_queue(connection: &mut SqliteConnection, tables: &Tables) -> sqlx::Result<()> {
    execute(
        connection,
        format!(
            r#"create index if not exists {} on {} (due_ms, "offset") where not acked"#,
            tables.due_index(),
            tables.messages()
        ),
    )
    .await
}

async fn execute(connection: &mut SqliteConnection, statement: String) -> sqlx::Result<()> {
    sqlx::query(AssertSqlSafe(statement)).execute(connection).await.map(drop)
}
