//! Leases and positions.
//!
//! Whoever changes a group locks the row of its lease first and Go's row second.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, MySql, MySqlConnection, Row as _};

use super::{
    NOW_MS, UNCUT,
    connection::{IN_TRANSACTION, READ_COMMITTED, bound},
};
use crate::{
    connection::{ConnectionDialect as _, begin},
    inbox::hex,
    log::{Claim, Claimed, Lease, LeaseDialect, LeaseRow, LogDialect as _, Progress, Taken, millis},
    position::Position,
    queue::json,
    topic::LEASES,
};

/// When to ask again whether a Go reader is still at work: it holds a lock, which has no end.
const GO_AGAIN: Duration = Duration::from_secs(1);

/// Whether the connection has ended by which the owner is seen. An account sees its own connections, and no others for sure.
const IS_DISCONNECTED: &str = "coalesce(told_token = token
    and substring(connection, locate(' ', connection) + 1) = concat_ws(' ', @@hostname, @@port, current_user())
    and not exists (
        select 1 from information_schema.processlist p
        where p.id = cast(substring_index(connection, ' ', 1) as unsigned)
    ), 0)";

#[async_trait]
impl LeaseDialect for MySql {
    async fn claim(connection: &mut MySqlConnection, claim: &Claim<'_>) -> sqlx::Result<Claimed> {
        // Those who stand by ask often; reading first keeps them from writing each time.
        let found = row(connection, claim, "").await?;
        if let Some(held) = found.as_ref().and_then(|row| row.held(claim)) {
            return Ok(held);
        }
        if claim.config.makes_group() {
            MySql::create_group(connection, claim.tables, claim.config).await?;
        } else if MySql::place(connection, claim.tables, claim.config.group_name()).await?.is_none() {
            return Err(sqlx::Error::RowNotFound);
        }
        if found.is_none() {
            create(connection, claim).await?;
        }
        let mut transaction = begin::<MySql>(connection, claim.config.lease).await?;
        let claimed = take(&mut transaction, claim).await?;
        transaction.commit().await?;
        MySql::end(connection).await?;
        Ok(claimed)
    }

    async fn renew(
        connection: &mut MySqlConnection,
        lease: &mut Lease,
        duration: Duration,
    ) -> sqlx::Result<bool> {
        // Whoever has taken over without our table, or has set the position by hand, has changed it.
        let renewed = sqlx::query(AssertSqlSafe(format!(
            "update {LEASES} set expires_at_ms = {NOW_MS} + ?, lease_ms = ?, told_token = token,
                    connection = ?
             where topic = ? and consumer_group = ? and token = ? and owner = ?
               and exists (select 1 from {} o where o.consumer_group = ? and coalesce(o.offset_acked, 0) = ?)",
            lease.tables.offsets()
        )))
        .bind(millis(duration))
        .bind(millis(duration))
        .bind(lease.witness.as_deref())
        .bind(lease.tables.topic())
        .bind(&lease.group)
        .bind(lease.token)
        .bind(&lease.owner)
        .bind(&lease.group)
        .bind(lease.position.offset)
        .execute(connection)
        .await?;
        Ok(renewed.rows_affected() > 0)
    }

    const RENEWS_MANY: bool = true;

    /// First it is looked where the groups are, which locks nothing. Then the leases of those that are where we know them
    /// to be are renewed as rows of a queue are claimed: with one message, and without waiting for who has a row.
    async fn renew_many(
        connection: &mut MySqlConnection,
        leases: &[Lease],
        witness: Option<&str>,
        duration: Duration,
    ) -> sqlx::Result<Vec<bool>> {
        let there = in_place(connection, leases).await?;
        let witness = witness.map_or_else(|| "null".to_owned(), MySql::literal);
        let named = there.iter().map(|number| {
            let Lease { tables, group, token, owner, .. } = &leases[*number];
            (tables.topic(), group, token, owner)
        });
        let named = MySql::literal(&json(&named.collect::<Vec<_>>()));
        let held = format!(
            "json_table({named}, '$[*]' columns (
                 number for ordinality, topic varchar(64) character set utf8mb4 path '$[0]',
                 consumer_group varchar(255) character set utf8mb4 path '$[1]',
                 token bigint path '$[2]', owner varchar(64) character set utf8mb4 path '$[3]')) held"
        );
        let lease = format!(
            "{LEASES} l on l.topic = held.topic collate utf8mb4_bin
                and l.consumer_group = held.consumer_group collate utf8mb4_bin"
        );
        let (found, lease_ms) = (
            "json_table(coalesce(@watermill_renewed, '[]'), '$[*]' columns (number int path '$')) found",
            millis(duration),
        );
        let renew = format!(
            "{READ_COMMITTED};
             start transaction;
             {UNCUT} select json_arrayagg(free.number) into @watermill_renewed from (
                 select held.number from {held} straight_join {lease}
                 where l.token = held.token and l.owner = held.owner collate utf8mb4_bin for update skip locked
             ) free;
             update {found} straight_join {held} on held.number = found.number straight_join {lease}
             set l.expires_at_ms = {NOW_MS} + {lease_ms}, l.lease_ms = {lease_ms}, l.told_token = l.token,
                 l.connection = {witness};
             commit;
             select cast(number as signed) from {found}"
        );
        let rows = match sqlx::raw_sql(AssertSqlSafe(renew)).fetch_all(&mut *connection).await {
            Ok(rows) => rows,
            Err(error) => {
                // It may have got as far as to begin.
                sqlx::raw_sql("rollback").execute(connection).await?;
                return Err(error);
            }
        };
        let mut renewed = vec![false; leases.len()];
        for row in rows {
            let number = usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or_default();
            if let Some(at) = number.checked_sub(1).and_then(|number| there.get(number)) {
                renewed[*at] = true;
            }
        }
        Ok(renewed)
    }

    async fn advance(
        connection: &mut MySqlConnection,
        lease: &Lease,
        position: Position,
        progress: Option<&str>,
    ) -> sqlx::Result<bool> {
        let advanced = sqlx::query(AssertSqlSafe(advance(lease, ["?"; 8])))
            .bind(position.offset)
            .bind(position.offset)
            .bind(&lease.group)
            .bind(lease.position.offset)
            .bind(lease.tables.topic())
            .bind(&lease.group)
            .bind(lease.token)
            .bind(&lease.owner)
            .execute(&mut *connection)
            .await?;
        replace_progress(connection, lease, advanced.rows_affected() > 0, progress).await
    }

    const STEP_BOUNDS_SESSION: bool = true;

    /// One message to the server. It asks first whether there is a transaction: a deadlock may have ended that, and what is
    /// written next would be there for good.
    async fn advance_in_step(
        connection: &mut MySqlConnection,
        lease: &Lease,
        position: Position,
        progress: Option<&str>,
        silence: Duration,
    ) -> sqlx::Result<bool> {
        let text = |text: &str| format!("_utf8mb4 x'{}'", hex(text.as_bytes()));
        let [to, from, token] =
            [position.offset, lease.position.offset, lease.token].map(|number| number.to_string());
        let [group, topic, owner] = [&lease.group, lease.tables.topic(), &lease.owner].map(text);
        let advance = advance(lease, [&to, &to, &group, &from, &topic, &group, &token, &owner]);
        let text = format!("{IN_TRANSACTION}; {}; {advance}", bound(silence));
        let advanced = sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut *connection).await?;
        replace_progress(connection, lease, advanced.rows_affected() > 0, progress).await
    }

    async fn release(connection: &mut MySqlConnection, lease: &Lease, clean: bool) -> sqlx::Result<()> {
        let owner = if clean { "null" } else { "owner" };
        sqlx::query(AssertSqlSafe(format!(
            "update {LEASES} set owner = {owner}, expires_at_ms = 0, connection = null
             where topic = ? and consumer_group = ? and token = ? and owner = ?"
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

/// The statement that moves a position: to where, twice, the group, from where; the topic, the group, the token and the owner
/// of the lease.
///
/// The fencing token refuses whoever lost the lease to one of us; the comparison refuses whoever lost it to Go, and notices
/// a position that was set by hand. The owner tells databases apart that are alike. The lease is locked first, because its
/// subquery depends on nothing; to update a join would take a temporary table on disk. (The client asks for the number of
/// rows that were found, changed or not.)
fn advance(lease: &Lease, values: [&str; 8]) -> String {
    let offsets = lease.tables.offsets();
    let [acked, consumed, group, from, topic, of, token, owner] = values;
    format!(
        "update {offsets} set offset_acked = {acked}, offset_consumed = {consumed}
         where consumer_group = {group} and coalesce(offset_acked, 0) = {from} and exists (
             select 1 from {LEASES} where topic = {topic} and consumer_group = {of} and token = {token} and owner = {owner}
             for update
         )"
    )
}

/// Replaces the progress, if given, of a lease whose position was moved.
async fn replace_progress(
    connection: &mut MySqlConnection,
    lease: &Lease,
    is_advanced: bool,
    progress: Option<&str>,
) -> sqlx::Result<bool> {
    if let Some(progress) = progress.filter(|_| is_advanced) {
        sqlx::query(AssertSqlSafe(format!(
            "update {LEASES} set progress = ? where topic = ? and consumer_group = ? and token = ?"
        )))
        .bind(progress)
        .bind(lease.tables.topic())
        .bind(&lease.group)
        .bind(lease.token)
        .execute(connection)
        .await?;
    }
    Ok(is_advanced)
}

/// Takes the lease unless somebody has it, inside a transaction.
async fn take(connection: &mut MySqlConnection, claim: &Claim<'_>) -> sqlx::Result<Claimed> {
    let Some(found) = row(connection, claim, "for update").await? else {
        return Err(sqlx::Error::RowNotFound);
    };
    if let Some(held) = found.held(claim) {
        return Ok(held);
    }
    let (group, offsets) = (claim.config.group_name(), claim.tables.offsets());
    let position: Option<i64> = sqlx::query_scalar(AssertSqlSafe(format!(
        "select coalesce(offset_acked, 0) from {offsets}
         where consumer_group = ? for update skip locked"
    )))
    .bind(group)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(position) = position else {
        return Ok(Claimed::Held { by: "a Go reader".to_owned(), remaining: GO_AGAIN });
    };
    let (token, lease_ms) = (found.token + 1, millis(claim.config.lease));
    let version = claim.config.lease_version();
    sqlx::query(AssertSqlSafe(format!(
        "update {LEASES} set owner = ?, token = ?, expires_at_ms = {NOW_MS} + ?,
                version = {version}, told_token = ?, lease_ms = ?, connection = null
         where topic = ? and consumer_group = ?"
    )))
    .bind(claim.owner)
    .bind(token)
    .bind(lease_ms)
    .bind(token)
    .bind(lease_ms)
    .bind(claim.tables.topic())
    .bind(group)
    .execute(&mut *connection)
    .await?;
    let unclear_up_to = match found.owner {
        // It was given back, or never taken.
        None => None,
        Some(_) => {
            let (offset, messages) = (claim.tables.offset(), claim.tables.messages());
            let newest = format!("select cast(max({offset}) as signed) from {messages}");
            let newest: Option<i64> =
                sqlx::query_scalar(AssertSqlSafe(newest)).fetch_one(&mut *connection).await?;
            newest.map(Position::from)
        }
    };
    let position = Position::from(position);
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

/// Which of the groups are at the position that we know.
async fn in_place(connection: &mut MySqlConnection, leases: &[Lease]) -> sqlx::Result<Vec<usize>> {
    let positions = leases.iter().zip(0..).map(|(lease, number): (&Lease, i32)| {
        let offsets = lease.tables.offsets();
        format!("select {number}, coalesce(offset_acked, 0) from {offsets} where consumer_group = ?")
    });
    let positions = positions.collect::<Vec<_>>().join(" union all ");
    let asking = sqlx::query_as(AssertSqlSafe(positions));
    let asking = leases.iter().fold(asking, |asking, lease| asking.bind(&*lease.group));
    let found: Vec<(i64, i64)> = asking.fetch_all(connection).await?;
    let is_in_place = |number: &usize| {
        found.iter().any(|(at, position)| {
            usize::try_from(*at) == Ok(*number) && *position == leases[*number].position.offset
        })
    };
    Ok((0..leases.len()).filter(is_in_place).collect())
}

async fn create(connection: &mut MySqlConnection, claim: &Claim<'_>) -> sqlx::Result<()> {
    sqlx::query(AssertSqlSafe(format!(
        "insert ignore into {LEASES} (topic, consumer_group, token, expires_at_ms, progress)
         values (?, ?, 0, 0, '')"
    )))
    .bind(claim.tables.topic())
    .bind(claim.config.group_name())
    .execute(connection)
    .await
    .map(drop)
}

async fn row(
    connection: &mut MySqlConnection,
    claim: &Claim<'_>,
    lock: &str,
) -> sqlx::Result<Option<LeaseRow>> {
    let row = sqlx::query(AssertSqlSafe(format!(
        "select cast(version as signed), owner, token, cast(expires_at_ms - {NOW_MS} as signed),
                case when told_token = token then lease_ms end,
                cast(owner is not null and {IS_DISCONNECTED} as signed), progress
         from {LEASES} where topic = ? and consumer_group = ? {lock}"
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
        is_disconnected: row.try_get::<i64, _>(5)? != 0,
        progress: row.try_get(6)?,
    }))
}
