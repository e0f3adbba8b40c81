//! The tables. Columns are Go's; defaults are ours, and let plain SQL leave them out.

use sqlx::{AssertSqlSafe, SqliteConnection};

use crate::{lease::LEASES, topic::Tables};

pub(super) async fn columns(connection: &mut SqliteConnection, table: &str) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar("select name from pragma_table_info(?)").bind(table).fetch_all(connection).await
}

pub(super) async fn create_messages(connection: &mut SqliteConnection, tables: &Tables) -> sqlx::Result<()> {
    execute(
        connection,
        format!(
            r#"create table if not exists {} (
                "offset" integer primary key autoincrement,
                uuid text not null,
                created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
                payload blob,
                metadata json not null default '{{}}'
            )"#,
            tables.messages()
        ),
    )
    .await
}

/// As Go's elsewhere: it has no queue on SQLite. Due times are milliseconds since the Unix epoch. The
/// index serves both kinds of claims.
pub(super) async fn create_queue(connection: &mut SqliteConnection, tables: &Tables) -> sqlx::Result<()> {
    let messages = tables.messages();
    execute(
        connection,
        format!(
            r#"create table if not exists {messages} (
                "offset" integer primary key autoincrement,
                uuid text not null,
                created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
                payload blob,
                metadata json not null default '{{}}',
                acked boolean not null default false,
                delayed_until integer
            )"#
        ),
    )
    .await?;
    execute(
        connection,
        format!(
            "create index if not exists {} on {messages} (delayed_until) where not acked",
            tables.due_index()
        ),
    )
    .await
}

pub(super) async fn create_claims(connection: &mut SqliteConnection, tables: &Tables) -> sqlx::Result<()> {
    execute(
        connection,
        format!(
            r#"create table if not exists {} (
                "offset" integer not null primary key,
                owner text,
                due_ms integer not null,
                attempts integer not null
            )"#,
            tables.claims()
        ),
    )
    .await
}

pub(super) async fn create_offsets(connection: &mut SqliteConnection, tables: &Tables) -> sqlx::Result<()> {
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
pub(super) async fn create_leases(connection: &mut SqliteConnection) -> sqlx::Result<()> {
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
                primary key (topic, consumer_group)
            ) without rowid"
        ),
    )
    .await
}

async fn execute(connection: &mut SqliteConnection, statement: String) -> sqlx::Result<()> {
    sqlx::query(AssertSqlSafe(statement)).execute(connection).await.map(drop)
}
