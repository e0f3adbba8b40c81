//! Leases and positions.
//!
//! Whoever changes a group locks the row of its lease first and Go's row second.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row as _};

use super::{NOW_MS, commit_order, rows};
use crate::{
    connection::begin,
    log::{Claim, Claimed, Lease, LeaseDialect, LeaseRow, LogDialect as _, Progress, Taken, millis},
    position::Position,
    topic::LEASES,
};

/// When to ask again whether a Go reader is still at work: it holds a lock, which has no end.
const GO_AGAIN: Duration = Duration::from_secs(1);

/// Whether the connection has ended by which the owner is seen. Of a process of another role only the number can be seen.
const IS_DISCONNECTED: &str = "coalesce(told_token = token and connection is not null and not exists (
    select from pg_stat_activity a
    where a.pid = split_part(connection, ' ', 1)::int
      and coalesce(extract(epoch from a.backend_start)::numeric(20, 6)::text = split_part(connection, ' ', 2), true)
), false)";

#[async_trait]
impl LeaseDialect for Postgres {
    async fn claim(connection: &mut PgConnection, claim: &Claim<'_>) -> sqlx::Result<Claimed> {
        // Those who stand by ask often; reading first keeps them from writing each time.
        if let Some(row) = row(connection, claim, "").await?
            && let Some(held) = row.held(claim)
        {
            return Ok(held);
        }
        let group = claim.config.group_name();
        let mut transaction = begin::<Postgres>(connection, claim.config.lease).await?;
        if claim.config.makes_group() {
            Postgres::create_group(&mut transaction, claim.tables, claim.config).await?;
        } else if Postgres::place(&mut transaction, claim.tables, group).await?.is_none() {
            return Err(sqlx::Error::RowNotFound);
        }
        sqlx::query(AssertSqlSafe(format!(
            "insert into {LEASES} (topic, consumer_group, token, expires_at_ms) values ($1, $2, 0, 0)
             on conflict do nothing"
        )))
        .bind(claim.tables.topic())
        .bind(group)
        .execute(&mut *transaction)
        .await?;
        let Some(found) = row(&mut transaction, claim, "for no key update").await? else {
            return Err(sqlx::Error::RowNotFound);
        };
        if let Some(held) = found.held(claim) {
            return Ok(held);
        }
        let offsets = claim.tables.offsets();
        let row = sqlx::query(AssertSqlSafe(format!(
            "select offset_acked, last_processed_transaction_id::text from {offsets}
             where consumer_group = $1 for update skip locked"
        )))
        .bind(group)
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(row) = row else {
            return Ok(Claimed::Held { by: "a Go reader".to_owned(), remaining: GO_AGAIN });
        };
        let position = Position {
            transaction: rows::transaction_id(&row, 1)?,
            offset: row.try_get::<Option<i64>, _>(0)?.unwrap_or(0),
        };
        let version = claim.config.lease_version();
        let token: i64 = sqlx::query_scalar(AssertSqlSafe(format!(
            "update {LEASES} set owner = $3, token = token + 1, expires_at_ms = {NOW_MS} + $4,
                    version = {version}, told_token = token + 1, lease_ms = $4, connection = null
             where topic = $1 and consumer_group = $2 returning token"
        )))
        .bind(claim.tables.topic())
        .bind(group)
        .bind(claim.owner)
        .bind(millis(claim.config.lease))
        .fetch_one(&mut *transaction)
        .await?;
        let unclear_up_to = match found.owner {
            // It was given back, or never taken.
            None => None,
            Some(_) => newest(&mut transaction, claim, position).await?,
        };
        transaction.commit().await?;
        Ok(Claimed::Ours(Taken {
            progress: Progress::decode(&found.progress, position),
            unclear_up_to,
            lease: Lease {
                tables: claim.tables.clone(),
                group: group.to_owned(),
                owner: claim.owner.to_owned(),
                token,
                length: claim.config.lease,
                position,
                locked_until: 0,
                witness: None,
            },
        }))
    }

    async fn renew(
        connection: &mut PgConnection,
        lease: &mut Lease,
        duration: Duration,
    ) -> sqlx::Result<bool> {
        // Whoever has taken over without our table, or has set the position by hand, has changed it.
        let kept: Option<bool> = sqlx::query_scalar(AssertSqlSafe(format!(
            "with renewed as (
                 update {LEASES} set expires_at_ms = {NOW_MS} + $1, lease_ms = $1, told_token = $4,
                        connection = $8
                 where topic = $2 and consumer_group = $3 and token = $4 and owner = $5 returning 1
             )
             select coalesce(o.offset_acked, 0) = $6 and o.last_processed_transaction_id = $7::text::xid8
             from {} o, renewed where o.consumer_group = $3",
            lease.tables.offsets()
        )))
        .bind(millis(duration))
        .bind(lease.tables.topic())
        .bind(&lease.group)
        .bind(lease.token)
        .bind(&lease.owner)
        .bind(lease.position.offset)
        .bind(lease.position.transaction.to_string())
        .bind(lease.witness.as_deref())
        .fetch_optional(connection)
        .await?;
        Ok(kept == Some(true))
    }

    const RENEWS_MANY: bool = true;

    /// One statement, which is the same for the same leases and so prepared once.
    async fn renew_many(
        connection: &mut PgConnection,
        leases: &[Lease],
        witness: Option<&str>,
        duration: Duration,
    ) -> sqlx::Result<Vec<bool>> {
        let positions = leases.iter().zip(1..).map(|(lease, number): (&Lease, i32)| {
            format!(
                "select {number} as number, coalesce(offset_acked, 0) as offset_acked,
                        last_processed_transaction_id as transaction
                 from {} where consumer_group = ($3::text[])[{number}]",
                lease.tables.offsets()
            )
        });
        let renew = format!(
            "with there as ({}),
                  mine as (
                      select l.topic, l.consumer_group, m.number
                      from unnest($2::text[], $3::text[], $4::bigint[], $5::text[], $6::bigint[], $7::text[])
                           with ordinality as m (topic, consumer_group, token, owner, position, transaction, number)
                      join there t on t.number = m.number and t.offset_acked = m.position
                                  and t.transaction = m.transaction::xid8
                      join {LEASES} l on l.topic = m.topic and l.consumer_group = m.consumer_group
                                     and l.token = m.token and l.owner = m.owner
                      for no key update of l skip locked
                  )
             update {LEASES} l set expires_at_ms = {NOW_MS} + $1, lease_ms = $1, told_token = l.token,
                    connection = $8
             from mine where l.topic = mine.topic and l.consumer_group = mine.consumer_group
             returning mine.number",
            positions.collect::<Vec<_>>().join(" union all ")
        );
        let numbers: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(renew))
            .bind(millis(duration))
            .bind(leases.iter().map(|lease| lease.tables.topic()).collect::<Vec<_>>())
            .bind(leases.iter().map(|lease| &*lease.group).collect::<Vec<&str>>())
            .bind(leases.iter().map(|lease| lease.token).collect::<Vec<_>>())
            .bind(leases.iter().map(|lease| &*lease.owner).collect::<Vec<&str>>())
            .bind(leases.iter().map(|lease| lease.position.offset).collect::<Vec<_>>())
            .bind(leases.iter().map(|lease| lease.position.transaction.to_string()).collect::<Vec<_>>())
            .bind(witness)
            .fetch_all(connection)
            .await?;
        Ok((1..).take(leases.len()).map(|number| numbers.contains(&number)).collect())
    }

    async fn advance(
        connection: &mut PgConnection,
        lease: &Lease,
        position: Position,
        progress: Option<&str>,
    ) -> sqlx::Result<bool> {
        // The fencing token refuses whoever lost the lease to one of us; the comparison refuses whoever lost
        // it to Go, and notices a position that was set by hand. The owner tells databases apart that are alike. The lock
        // makes a claim wait for this, or this for the claim.
        let advanced = sqlx::query(AssertSqlSafe(format!(
            "with ours as materialized (
                 select set_config('idle_in_transaction_session_timeout', $9, true)
                 from {LEASES} where topic = $1 and consumer_group = $2 and token = $3 and owner = $8
                 for no key update
             )
             update {} set offset_acked = $4, last_processed_transaction_id = $5::text::xid8
             where consumer_group = $2 and coalesce(offset_acked, 0) = $6
               and last_processed_transaction_id = $7::text::xid8 and exists (select from ours)",
            lease.tables.offsets()
        )))
        .bind(lease.tables.topic())
        .bind(&lease.group)
        .bind(lease.token)
        .bind(position.offset)
        .bind(position.transaction.to_string())
        .bind(lease.position.offset)
        .bind(lease.position.transaction.to_string())
        .bind(&lease.owner)
        .bind(millis(lease.length).clamp(1, i32::MAX.into()).to_string())
        .execute(&mut *connection)
        .await?
        .rows_affected();
        if advanced == 0 {
            return Ok(false);
        }
        if let Some(progress) = progress {
            sqlx::query(AssertSqlSafe(format!(
                "update {LEASES} set progress = $1 where topic = $2 and consumer_group = $3 and token = $4"
            )))
            .bind(progress)
            .bind(lease.tables.topic())
            .bind(&lease.group)
            .bind(lease.token)
            .execute(connection)
            .await?;
        }
        Ok(true)
    }

    async fn release(connection: &mut PgConnection, lease: &Lease, clean: bool) -> sqlx::Result<()> {
        let owner = if clean { "null" } else { "owner" };
        sqlx::query(AssertSqlSafe(format!(
            "update {LEASES} set owner = {owner}, expires_at_ms = 0, connection = null
             where topic = $1 and consumer_group = $2 and token = $3 and owner = $4"
        )))
        .bind(lease.tables.topic())
        .bind(&lease.group)
        .bind(lease.token)
        .bind(&lease.owner)
        .execute(connection)
        .await
        .map(drop)
    }
}

async fn row(connection: &mut PgConnection, claim: &Claim<'_>, lock: &str) -> sqlx::Result<Option<LeaseRow>> {
    let row = sqlx::query(AssertSqlSafe(format!(
        "select version::bigint, owner, token, expires_at_ms - {NOW_MS},
                case when told_token = token then lease_ms end, owner is not null and {IS_DISCONNECTED}, progress
         from {LEASES} where topic = $1 and consumer_group = $2 {lock}"
    )))
    .bind(claim.tables.topic())
    .bind(claim.config.group_name())
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(LeaseRow {
        version: row.try_get(0)?,
        owner: row.try_get(1)?,
        token: row.try_get(2)?,
        remaining_ms: row.try_get(3)?,
        lease_ms: row.try_get(4)?,
        is_disconnected: row.try_get(5)?,
        progress: row.try_get(6)?,
    }))
}

/// The newest row, in the order in which this group reads.
async fn newest(
    connection: &mut PgConnection,
    claim: &Claim<'_>,
    position: Position,
) -> sqlx::Result<Option<Position>> {
    let messages = claim.tables.messages();
    // A group that has read nothing yet does not show by which rule it reads.
    let by_transaction = position.transaction != 0
        || matches!(
            commit_order::open(connection, claim.tables, claim.config).await,
            Ok(commit_order::Cursor::Snapshot(_))
        );
    let newest = match by_transaction {
        false => format!(
            "select max({offset})::bigint, '0' from {messages} having max({offset}) is not null",
            offset = claim.tables.offset()
        ),
        true => format!(
            r#"select "offset", transaction_id::text from {messages} m
               order by m.transaction_id desc, m."offset" desc limit 1"#
        ),
    };
    let row = sqlx::query(AssertSqlSafe(newest)).fetch_optional(connection).await?;
    row.map(|row| Ok(Position { transaction: rows::transaction_id(&row, 1)?, offset: row.try_get(0)? }))
        .transpose()
}
