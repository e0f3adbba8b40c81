//! The tables. Columns are Go's; defaults are ours, and let plain SQL leave them out.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, MySql, MySqlConnection};
use watermill_core::metadata_keys;

use super::errors;
use crate::{
    PayloadColumn,
    connection::LOCK_SECS_MAX,
    schema::{HOLDS_KEY, SchemaDialect},
    topic::{CHECKPOINTS, LEASES, Tables},
};

#[async_trait]
impl SchemaDialect for MySql {
    const LEASES_COLUMNS_ADDED: &[(&str, &str)] = &[
        ("version", "int not null default 1"),
        ("told_token", "bigint null"),
        ("lease_ms", "bigint null"),
        ("connection", "varchar(512) null"),
        ("read_offset", "bigint null"),
        ("read_row", "varchar(255) null"),
    ];

    async fn alter(connection: &mut MySqlConnection, statement: String) -> sqlx::Result<()> {
        execute(connection, statement).await
    }

    async fn columns(connection: &mut MySqlConnection, table: &str) -> sqlx::Result<Vec<String>> {
        sqlx::query_scalar(
            "select cast(column_name as char) from information_schema.columns
             where table_schema = database() and table_name = ?",
        )
        .bind(table)
        .fetch_all(connection)
        .await
    }

    async fn writable_columns(connection: &mut MySqlConnection, table: &str) -> sqlx::Result<Vec<String>> {
        sqlx::query_scalar(
            "select cast(column_name as char) from information_schema.columns
             where table_schema = database() and table_name = ? and coalesce(generation_expression, '') = ''",
        )
        .bind(table)
        .fetch_all(connection)
        .await
    }

    async fn payload_column(
        connection: &mut MySqlConnection,
        tables: &Tables,
    ) -> sqlx::Result<PayloadColumn> {
        let holds_bytes: i64 = sqlx::query_scalar(
            "select count(*) from information_schema.columns
             where table_schema = database() and table_name = ? and column_name = 'payload'
               and (data_type like '%blob' or data_type like '%binary')",
        )
        .bind(tables.messages_name())
        .fetch_one(connection)
        .await?;
        Ok(if holds_bytes > 0 { PayloadColumn::Bytes } else { PayloadColumn::Json })
    }

    async fn create_messages(
        connection: &mut MySqlConnection,
        tables: &Tables,
        payload: PayloadColumn,
    ) -> sqlx::Result<()> {
        let payload = payload_type(payload);
        execute(
            connection,
            format!(
                "create table if not exists {} (
                    `offset` bigint not null auto_increment primary key,
                    uuid varchar(36) not null default (uuid()),
                    created_at timestamp not null default current_timestamp,
                    payload {payload} null,
                    metadata json null
                ) engine = InnoDB default charset = utf8mb4",
                tables.messages()
            ),
        )
        .await
    }

    /// What Go's queues have is Go's, `delayed_until` of those for delayed messages included; then come the
    /// columns that claims need, and the index that serves them.
    async fn create_queue(
        connection: &mut MySqlConnection,
        tables: &Tables,
        payload: PayloadColumn,
    ) -> sqlx::Result<()> {
        execute(
            connection,
            format!(
                "create table if not exists {} (
                    `offset` bigint not null auto_increment primary key,
                    uuid varchar(36) not null default (uuid()),
                    created_at timestamp not null default current_timestamp,
                    payload {} null,
                    metadata json null,
                    acked boolean not null default false,
                    delayed_until timestamp null default null,
                    owner varchar(64) null,
                    due_ms bigint not null default 0,
                    attempts int unsigned not null default 0,
                    index (acked, due_ms)
                ) engine = InnoDB default charset = utf8mb4",
                tables.messages(),
                payload_type(payload),
            ),
        )
        .await
    }

    /// Of several that do so at once one succeeds, and the others find the columns there.
    async fn adopt_queue(connection: &mut MySqlConnection, tables: &Tables) -> sqlx::Result<()> {
        let present = Self::columns(connection, &tables.messages_name()).await?;
        let missing: Vec<&str> = [
            ("delayed_until", "add column delayed_until timestamp null default null"),
            ("owner", "add column owner varchar(64) null"),
            ("attempts", "add column attempts int unsigned not null default 0"),
            ("due_ms", "add column due_ms bigint not null default 0, add index (acked, due_ms)"),
        ]
        .iter()
        .filter(|(name, _)| !present.iter().any(|there| there == name))
        .map(|(_, add)| *add)
        .collect();
        let statement = format!("alter table {} {}", tables.messages(), missing.join(", "));
        change(connection, tables, "due_ms", statement).await
    }

    /// The key is a hash, because an index holds no text of any length.
    fn order_queue(tables: &Tables) -> Vec<String> {
        let entry = |name: &str| format!("json_unquote(json_extract(metadata, '$.{name}'))");
        vec![format!(
            "alter table {} add column ordering_key bigint generated always as (
                 conv(left(sha2(coalesce({}, {}), 256), 15), 16, 10)) stored,
                 add column holds_key bigint null,
                 add index (acked, ordering_key, `offset`), add unique index (holds_key)",
            tables.messages(),
            entry(metadata_keys::KEY),
            entry(metadata_keys::KEY_BASE64),
        )]
    }

    /// Of several that do so at once one succeeds, and the others find the columns there.
    async fn add_order(connection: &mut MySqlConnection, tables: &Tables) -> sqlx::Result<()> {
        for statement in Self::order_queue(tables) {
            change(connection, tables, HOLDS_KEY, statement).await?;
        }
        Ok(())
    }

    /// Groups are told apart by their bytes, as elsewhere.
    async fn create_offsets(connection: &mut MySqlConnection, tables: &Tables) -> sqlx::Result<()> {
        execute(
            connection,
            format!(
                "create table if not exists {} (
                    consumer_group varchar(255) not null primary key,
                    offset_acked bigint null,
                    offset_consumed bigint not null
                ) engine = InnoDB default charset = utf8mb4 collate = utf8mb4_bin",
                tables.offsets()
            ),
        )
        .await
    }

    async fn create_leases(connection: &mut MySqlConnection) -> sqlx::Result<()> {
        execute(
            connection,
            format!(
                "create table if not exists {LEASES} (
                    topic varchar(64) not null,
                    consumer_group varchar(255) not null,
                    owner varchar(64) null,
                    token bigint not null,
                    expires_at_ms bigint not null,
                    progress longtext not null,
                version int not null default 1,
                told_token bigint null, -- of whose owner the next two tell
                lease_ms bigint null,
                connection varchar(512) null,
                read_offset bigint null, -- the row that was read last
                read_row varchar(255) null,
                    primary key (topic, consumer_group)
                ) engine = InnoDB default charset = utf8mb4 collate = utf8mb4_bin"
            ),
        )
        .await
    }

    async fn create_checkpoints(connection: &mut MySqlConnection) -> sqlx::Result<()> {
        execute(
            connection,
            format!(
                "create table if not exists {CHECKPOINTS} (
                    name varchar(255) not null primary key,
                    owner varchar(64) not null,
                    checkpoint longblob null
                ) engine = InnoDB default charset = utf8mb4 collate = utf8mb4_bin"
            ),
        )
        .await
    }
}

/// Changes a table that has rows so that it has a column. It may take long, and who does the same meanwhile waits for it; but
/// nobody waits for long behind it while others have the table locked.
async fn change(
    connection: &mut MySqlConnection,
    tables: &Tables,
    column: &str,
    statement: String,
) -> sqlx::Result<()> {
    let wait = "set @watermill_lock_wait = @@session.lock_wait_timeout";
    execute(connection, format!("{wait}; set session lock_wait_timeout = {LOCK_SECS_MAX}")).await?;
    let changed = loop {
        let Err(error) = execute(connection, statement.clone()).await else { break Ok(()) };
        // Asked first: what somebody has done who is no longer at it, is there.
        let is_waited_for =
            errors::is_locked(&error) && is_changed_by_another(connection, &tables.messages()).await?;
        let present = MySql::columns(connection, &tables.messages_name()).await?;
        if present.iter().any(|there| there == column) {
            break Ok(());
        }
        if !is_waited_for {
            break Err(error);
        }
    };
    execute(connection, "set session lock_wait_timeout = @watermill_lock_wait".to_owned()).await?;
    changed
}

/// Whether somebody of this account's is changing the table, and waits for nobody.
async fn is_changed_by_another(connection: &mut MySqlConnection, messages: &str) -> sqlx::Result<bool> {
    let changing: i64 = sqlx::query_scalar(
        "select count(*) from information_schema.processlist
         where id <> connection_id() and db = database() and locate(concat('alter table ', ?), info) = 1
           and state not like 'Waiting for table metadata lock%'",
    )
    .bind(messages)
    .fetch_one(connection)
    .await?;
    Ok(changing > 0)
}

fn payload_type(payload: PayloadColumn) -> &'static str {
    match payload {
        PayloadColumn::Json => "json",
        PayloadColumn::Bytes => "longblob",
    }
}

async fn execute(connection: &mut MySqlConnection, statement: String) -> sqlx::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await.map(drop)
}
