//! Leases and positions.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Connection as _, Row as _, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::NOW_MS;
use crate::{
    log::{Claim, Claimed, Lease, LeaseDialect, LeaseRow, LogDialect as _, Progress, Taken, millis},
    position::Position,
    topic::LEASES,
};

/// The group's row beside its lease.
struct State {
    position: Position,
    locked_until: i64,
    now_ms: i64,
    lease: Option<LeaseRow>,
    /// What the lease's owner wrote to Go's column.
    lease_locked_until: i64,
}

/// Whether a lease can be had.
enum Free {
    /// It was given back, or never taken.
    Clean,
    /// Its owner has let it expire.
    Abandoned,
    /// No.
    Held(Box<Claimed>),
}

#[async_trait]
impl LeaseDialect for Sqlite {
    async fn claim(connection: &mut SqliteConnection, claim: &Claim<'_>) -> sqlx::Result<Claimed> {
        // Those who stand by ask often; reading first keeps them from taking the write lock each time.
        if let Some(state) = state(connection, claim).await?
            && let Free::Held(held) = state.free(claim)
        {
            return Ok(*held);
        }
        // The first statement writes: a transaction that began with a read could not be sure to write.
        let mut transaction = connection.begin().await?;
        if claim.config.makes_group() {
            Sqlite::create_group(&mut transaction, claim.tables, claim.config).await?;
        }
        let Some(state) = state(&mut transaction, claim).await? else {
            return Err(sqlx::Error::RowNotFound);
        };
        let clean = match state.free(claim) {
            Free::Clean => true,
            Free::Abandoned => false,
            Free::Held(held) => return Ok(*held),
        };
        let (expires_at_ms, locked_until) = ends(state.now_ms, claim.config.lease);
        let version = claim.config.lease_version();
        let token: i64 = sqlx::query_scalar(AssertSqlSafe(format!(
            "insert into {LEASES} (topic, consumer_group, owner, token, expires_at_ms, locked_until,
                                    version, told_token, lease_ms)
             values (?1, ?2, ?3, 1, ?4, ?5, {version}, 1, ?6)
             on conflict do update set owner = ?3, token = token + 1, expires_at_ms = ?4, locked_until = ?5,
                                       version = {version}, told_token = token + 1, lease_ms = ?6
             returning token"
        )))
        .bind(claim.tables.topic())
        .bind(claim.config.group_name())
        .bind(claim.owner)
        .bind(expires_at_ms)
        .bind(locked_until)
        .bind(millis(claim.config.lease))
        .fetch_one(&mut *transaction)
        .await?;
        let offsets = claim.tables.offsets();
        sqlx::query(AssertSqlSafe(format!("update {offsets} set locked_until = ? where consumer_group = ?")))
            .bind(locked_until)
            .bind(claim.config.group_name())
            .execute(&mut *transaction)
            .await?;
        let unclear_up_to = if clean {
            None
        } else {
            let newest = format!("select max({}) from {}", claim.tables.offset(), claim.tables.messages());
            let newest: Option<i64> =
                sqlx::query_scalar(AssertSqlSafe(newest)).fetch_one(&mut *transaction).await?;
            newest.map(Position::from)
        };
        transaction.commit().await?;
        Ok(Claimed::Ours(Taken {
            progress: state
                .lease
                .map(|lease| Progress::decode(&lease.progress, state.position))
                .unwrap_or_default(),
            unclear_up_to,
            lease: Lease {
                tables: claim.tables.clone(),
                group: claim.config.group_name().to_owned(),
                owner: claim.owner.to_owned(),
                token,
                length: claim.config.lease,
                position: state.position,
                locked_until,
                witness: None,
            },
        }))
    }

    async fn renew(
        connection: &mut SqliteConnection,
        lease: &mut Lease,
        duration: Duration,
    ) -> sqlx::Result<bool> {
        let mut transaction = connection.begin().await?;
        let now_ms: Option<i64> = sqlx::query_scalar(AssertSqlSafe(format!(
            "update {LEASES} set expires_at_ms = {NOW_MS} + ?, lease_ms = ?, told_token = token
             where topic = ? and consumer_group = ? and token = ? and owner = ? returning {NOW_MS}"
        )))
        .bind(millis(duration))
        .bind(millis(duration))
        .bind(lease.tables.topic())
        .bind(&lease.group)
        .bind(lease.token)
        .bind(&lease.owner)
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(now_ms) = now_ms else {
            return Ok(false);
        };
        let (_, locked_until) = ends(now_ms, duration);
        // Whoever has taken over without our table, or has set the position by hand, has changed one of these.
        let offsets = lease.tables.offsets();
        let kept = sqlx::query(AssertSqlSafe(format!(
            "update {offsets} set locked_until = ?
             where consumer_group = ? and locked_until = ? and offset_acked = ?"
        )))
        .bind(locked_until)
        .bind(&lease.group)
        .bind(lease.locked_until)
        .bind(lease.position.offset)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        if kept == 0 {
            return Ok(false);
        }
        // Go counts in whole seconds, so there is often nothing to change.
        if locked_until != lease.locked_until {
            sqlx::query(AssertSqlSafe(format!(
                "update {LEASES} set locked_until = ? where topic = ? and consumer_group = ?"
            )))
            .bind(locked_until)
            .bind(lease.tables.topic())
            .bind(&lease.group)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        lease.locked_until = locked_until;
        Ok(true)
    }

    async fn advance(
        connection: &mut SqliteConnection,
        lease: &Lease,
        position: Position,
        progress: Option<&str>,
    ) -> sqlx::Result<bool> {
        // The fencing token refuses whoever lost the lease to one of us; the two comparisons refuse whoever
        // lost it to Go, and notice a position that was set by hand. The owner tells databases apart that are alike.
        let advanced = sqlx::query(AssertSqlSafe(format!(
            "update {} set offset_acked = ?1
             where consumer_group = ?2 and offset_acked = ?3 and locked_until = ?4
               and exists (
                   select 1 from {LEASES} where topic = ?5 and consumer_group = ?2 and token = ?6 and owner = ?7
               )",
            lease.tables.offsets()
        )))
        .bind(position.offset)
        .bind(&lease.group)
        .bind(lease.position.offset)
        .bind(lease.locked_until)
        .bind(lease.tables.topic())
        .bind(lease.token)
        .bind(&lease.owner)
        .execute(&mut *connection)
        .await?
        .rows_affected();
        if advanced == 0 {
            return Ok(false);
        }
        if let Some(progress) = progress {
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
        Ok(true)
    }

    async fn release(connection: &mut SqliteConnection, lease: &Lease, clean: bool) -> sqlx::Result<()> {
        let owner = if clean { "null" } else { "owner" };
        let mut transaction = connection.begin().await?;
        let ours = sqlx::query(AssertSqlSafe(format!(
            "update {LEASES} set owner = {owner}, expires_at_ms = 0, locked_until = 0
             where topic = ? and consumer_group = ? and token = ? and owner = ?"
        )))
        .bind(lease.tables.topic())
        .bind(&lease.group)
        .bind(lease.token)
        .bind(&lease.owner)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        if ours > 0 {
            let offsets = lease.tables.offsets();
            sqlx::query(AssertSqlSafe(format!(
                "update {offsets} set locked_until = 0 where consumer_group = ? and locked_until = ?"
            )))
            .bind(&lease.group)
            .bind(lease.locked_until)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await
    }
}

async fn state(connection: &mut SqliteConnection, claim: &Claim<'_>) -> sqlx::Result<Option<State>> {
    let row = sqlx::query(AssertSqlSafe(format!(
        "select o.offset_acked, o.locked_until, {NOW_MS},
                l.token, l.owner, l.expires_at_ms - {NOW_MS}, l.locked_until, l.version,
                iif(l.told_token = l.token, l.lease_ms, null), l.progress
         from {} o left join {LEASES} l on l.topic = ? and l.consumer_group = o.consumer_group
         where o.consumer_group = ?",
        claim.tables.offsets()
    )))
    .bind(claim.tables.topic())
    .bind(claim.config.group_name())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(State::read).transpose()
}

impl State {
    fn read(row: &SqliteRow) -> sqlx::Result<Self> {
        let lease = match row.try_get::<Option<i64>, _>(3)? {
            Some(token) => Some(LeaseRow {
                version: row.try_get(7)?,
                owner: row.try_get(4)?,
                token,
                remaining_ms: row.try_get(5)?,
                lease_ms: row.try_get(8)?,
                // There are none to a file.
                is_disconnected: false,
                progress: row.try_get(9)?,
            }),
            None => None,
        };
        Ok(Self {
            position: row.try_get::<i64, _>(0)?.into(),
            locked_until: row.try_get(1)?,
            now_ms: row.try_get(2)?,
            lease,
            lease_locked_until: row.try_get::<Option<i64>, _>(6)?.unwrap_or(0),
        })
    }

    fn free(&self, claim: &Claim<'_>) -> Free {
        let ours = self.lease_locked_until;
        // Written by somebody who does not know our table: a Go reader is at work. It holds its lock
        // until the whole second is over.
        let go_until_ms = self.locked_until.saturating_add(1).saturating_mul(1000);
        if self.locked_until != ours && go_until_ms > self.now_ms {
            let remaining = u64::try_from(go_until_ms.saturating_sub(self.now_ms)).unwrap_or(0);
            let remaining = Duration::from_millis(remaining);
            return Free::Held(Box::new(Claimed::Held { by: "a Go reader".to_owned(), remaining }));
        }
        if let Some(held) = self.lease.as_ref().and_then(|lease| lease.held(claim)) {
            return Free::Held(Box::new(held));
        }
        let is_owned = self.lease.as_ref().is_some_and(|lease| lease.owner.is_some());
        match !is_owned && (self.locked_until == ours || self.locked_until == 0) {
            true => Free::Clean,
            false => Free::Abandoned,
        }
    }
}

/// When a lease that begins now ends: in milliseconds for us, in whole seconds, and not earlier, for Go.
fn ends(now_ms: i64, duration: Duration) -> (i64, i64) {
    let expires_at_ms = now_ms.saturating_add(millis(duration));
    (expires_at_ms, expires_at_ms.div_euclid(1000) + 1)
}
