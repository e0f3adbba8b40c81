//! The tables. Columns are Go's; defaults are ours, and let plain SQL leave them out.

use sqlx::{AssertSqlSafe, PgConnection};

use crate::{PayloadColumn, lease::LEASES, topic::Tables};

/// Two transactions that create the same table at once collide in the catalogue, `if not exists` or
/// not; so they queue for this lock first. The number is the ASCII of `wtrmll`.
const CREATING: i64 = 0x7774_726d_6c6c;

pub(super) async fn columns(connection: &mut PgConnection, table: &str) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "select attname::text from pg_attribute
         where attrelid = to_regclass(quote_ident($1)) and attnum > 0 and not attisdropped",
    )
    .bind(table)
    .fetch_all(connection)
    .await
}

/// The index on the offset alone is what Go's tables lack; reading by lock holders needs it.
pub(super) async fn create_messages(
    connection: &mut PgConnection,
    tables: &Tables,
    payload: PayloadColumn,
) -> sqlx::Result<()> {
    let payload = payload_type(payload);
    create(
        connection,
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

/// Go's queue, with a column for due times, which Go has on MySQL only. The indexes serve the two kinds
/// of claims, however many rows wait or are marked.
pub(super) async fn create_queue(
    connection: &mut PgConnection,
    tables: &Tables,
    payload: PayloadColumn,
) -> sqlx::Result<()> {
    let messages = tables.messages();
    // The server chooses the names of the indexes: ours could be cut to the same one. No name that can
    // stand here has a quote in it.
    create(
        connection,
        format!(
            r#"do 'begin
                if to_regclass(''{messages}'') is null then
                    create table {messages} (
                        "offset" bigserial not null primary key,
                        uuid varchar(36) not null default gen_random_uuid()::text,
                        payload {},
                        metadata json,
                        acked boolean not null default false,
                        created_at timestamp with time zone not null default current_timestamp,
                        delayed_until timestamp with time zone
                    );
                    create index on {messages} ("offset") where not acked and delayed_until is null;
                    create index on {messages} (delayed_until)
                        where not acked and delayed_until is not null;
                end if;
            end'"#,
            payload_type(payload),
        ),
    )
    .await
}

/// Rows come and go, and a look at the rows that have gone costs time until they are vacuumed.
pub(super) async fn create_claims(connection: &mut PgConnection, tables: &Tables) -> sqlx::Result<()> {
    create(
        connection,
        format!(
            r#"create table if not exists {} (
                "offset" bigint not null primary key,
                owner text,
                due_ms bigint not null,
                attempts int not null
            ) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000)"#,
            tables.claims()
        ),
    )
    .await
}

pub(super) async fn create_offsets(connection: &mut PgConnection, tables: &Tables) -> sqlx::Result<()> {
    create(
        connection,
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

pub(super) async fn create_leases(connection: &mut PgConnection) -> sqlx::Result<()> {
    create(
        connection,
        format!(
            "create table if not exists {LEASES} (
                topic text not null,
                consumer_group text not null,
                owner text,
                token bigint not null,
                expires_at_ms bigint not null,
                progress text not null default '',
                primary key (topic, consumer_group)
            )"
        ),
    )
    .await
}

fn payload_type(payload: PayloadColumn) -> &'static str {
    match payload {
        PayloadColumn::Json => "json",
        PayloadColumn::Bytes => "bytea",
    }
}

/// All statements go in one message, which is one transaction unless the caller has begun one.
async fn create(connection: &mut PgConnection, statement: String) -> sqlx::Result<()> {
    let statements = format!("select pg_advisory_xact_lock({CREATING}); {statement}");
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(connection).await.map(drop)
}
