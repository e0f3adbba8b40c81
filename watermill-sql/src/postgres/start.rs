//! Where groups begin.

use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use super::{checks::Facts, commit_order};
use crate::{
    CommitOrder, SqlSubscriberConfig, StartPosition,
    connection::begin,
    log::{NEWEST, Progress, behind},
    position::Position,
    topic::{LEASES, Tables},
};

/// Gives a group its first position unless it has one.
pub(super) async fn create_group(
    connection: &mut PgConnection,
    tables: &Tables,
    config: &SqlSubscriberConfig,
) -> sqlx::Result<()> {
    let there = format!("select exists (select from {} where consumer_group = $1)", tables.offsets());
    if sqlx::query_scalar(AssertSqlSafe(there)).bind(config.group_name()).fetch_one(&mut *connection).await? {
        return Ok(());
    }
    let (position, progress) = match config.start {
        StartPosition::Earliest => (Position::default(), Progress::default()),
        StartPosition::Latest => {
            let facts = Facts::of(connection, tables, config).await?;
            match facts.choose(config.commit_order) {
                Ok(CommitOrder::Snapshot) => behind_transactions(connection, tables).await?,
                Ok(_) => {
                    let sequence = facts.sequence.unwrap_or_default();
                    behind_offsets(connection, tables, &sequence).await?
                }
                // It cannot read at all, as it is told next.
                Err(_) => return Ok(()),
            }
        }
    };
    let mut transaction = begin::<Postgres>(connection, config.lease).await?;
    let made = sqlx::query(AssertSqlSafe(format!(
        "insert into {} (consumer_group, offset_acked, last_processed_transaction_id)
         values ($1, $2, $3::text::xid8) on conflict do nothing",
        tables.offsets()
    )))
    .bind(config.group_name())
    .bind(position.offset)
    .bind(position.transaction.to_string())
    .execute(&mut *transaction)
    .await?;
    if made.rows_affected() > 0 && !progress.is_empty() {
        note(&mut transaction, tables, config, &progress.encode(position)).await?;
    }
    transaction.commit().await
}

/// Without writers everything that was drawn is decided.
async fn behind_offsets(
    connection: &mut PgConnection,
    tables: &Tables,
    sequence: &str,
) -> sqlx::Result<(Position, Progress)> {
    let look = commit_order::look(connection, sequence, tables).await?;
    if look.holders.is_empty() {
        return Ok((look.drawn.into(), Progress::default()));
    }
    let newest: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(format!(
        r#"select "offset" from {} order by "offset" desc limit {NEWEST}"#,
        tables.messages()
    )))
    .fetch_all(connection)
    .await?;
    let (position, progress) = behind(&newest);
    Ok((position.into(), progress))
}

/// Behind the last transaction that every reader can see; what others have committed meanwhile is done. One
/// statement, and so one snapshot.
async fn behind_transactions(
    connection: &mut PgConnection,
    tables: &Tables,
) -> sqlx::Result<(Position, Progress)> {
    let messages = tables.messages();
    let rows: Vec<(i64, String, bool)> = sqlx::query_as(AssertSqlSafe(format!(
        r#"with seen as materialized (select pg_snapshot_xmin(pg_current_snapshot()) as xmin),
           first as (
               select "offset", transaction_id from {messages}
               where transaction_id < (select xmin from seen)
               order by transaction_id desc, "offset" desc limit 1
           ),
           others as (
               select "offset", transaction_id from {messages}
               where transaction_id >= (select xmin from seen)
               order by transaction_id, "offset" limit {NEWEST}
           )
           select "offset", transaction_id::text, done from (
               select "offset", transaction_id, false as done from first
               union all select "offset", transaction_id, true from others
           ) rows order by rows.transaction_id, rows."offset""#
    )))
    .fetch_all(connection)
    .await?;
    let (mut start, mut progress) = (Position::default(), Progress::default());
    for (offset, transaction, is_done) in rows {
        let transaction = transaction.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        let position = Position { transaction, offset };
        if is_done {
            progress.push_done(position);
        } else {
            start = position;
        }
    }
    Ok((start, progress))
}

async fn note(
    connection: &mut PgConnection,
    tables: &Tables,
    config: &SqlSubscriberConfig,
    progress: &str,
) -> sqlx::Result<()> {
    sqlx::query(AssertSqlSafe(format!(
        "insert into {LEASES} (topic, consumer_group, token, expires_at_ms, progress) values ($1, $2, 0, 0, $3)
         on conflict (topic, consumer_group) do update set progress = excluded.progress"
    )))
    .bind(tables.topic())
    .bind(config.group_name())
    .bind(progress)
    .execute(connection)
    .await
    .map(drop)
}
