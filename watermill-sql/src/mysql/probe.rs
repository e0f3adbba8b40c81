//! [`Cursor`]: reading in the order of offsets, with the statements that decide gaps.

use std::{collections::HashSet, time::Duration};

use sqlx::{AssertSqlSafe, Connection as _, MySqlConnection, mysql::MySqlDatabaseError};
use tokio::time::Instant;

use super::{
    checks,
    gaps::{Gap, Gaps, Probed, Statement},
    holder, rows,
};
use crate::{
    SqlSubscriberConfig,
    error::Failure,
    log::{self as logs, Fetched, Holder},
    position::Position,
    stored::Row,
    topic::Tables,
};

/// How it is known that those have ended who may have drawn an offset of a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// MariaDB's list of processes numbers their statements.
    Processes,
    /// MySQL's performance schema does.
    Events,
    /// They cannot be seen: time must do.
    Grace(Duration),
}

/// What a reader knows about gaps.
#[derive(Debug)]
pub struct Cursor {
    proof: Proof,
    gaps: Gaps,
    held_since: Option<Instant>,
}

impl logs::Cursor for Cursor {}

pub(super) async fn open(
    connection: &mut MySqlConnection,
    tables: &Tables,
    config: &SqlSubscriberConfig,
) -> Result<Cursor, Failure> {
    let facts = checks::check(connection, tables, config).await?;
    let proof = match (facts.sees_others, facts.is_mariadb) {
        (true, true) => Proof::Processes,
        (_, false) if running(connection, Proof::Events).await.is_ok() => Proof::Events,
        _ => {
            tracing::warn!(
                topic = tables.topic(),
                grace = ?config.gap_grace,
                "the account cannot see the statements of others: a missing offset is passed when it is \
                 found empty twice, gap_grace apart; grant process on *.* to have it decided exactly"
            );
            Proof::Grace(config.gap_grace)
        }
    };
    Ok(Cursor { proof, gaps: Gaps::default(), held_since: None })
}

impl Cursor {
    /// One statement while nothing is missing.
    pub(super) async fn fetch(
        &mut self,
        connection: &mut MySqlConnection,
        tables: &Tables,
        after: Position,
        limit: usize,
    ) -> sqlx::Result<Fetched> {
        let after = after.offset;
        self.gaps.forget_up_to(after);
        let mut rows = rows::visible(connection, tables, after, limit).await?;
        let more = rows.len() == limit;
        let mut gaps = self.undecided(after, &rows);
        if gaps.is_empty() {
            self.gaps.clear(after);
            self.held_since = None;
            return Ok(Fetched { rows, more, holder: None });
        }
        let now = Instant::now();
        let locked = self.decide(connection, tables, &gaps, &rows, now).await?;
        // Rows may have appeared, which were missing before.
        rows = rows::visible(connection, tables, after, limit).await?;
        gaps = self.undecided(after, &rows);
        let Some(&(first, _)) = gaps.first() else {
            self.held_since = None;
            return Ok(Fetched { more: rows.len() == limit, rows, holder: None });
        };
        rows.retain(|row| row.position.offset < first);
        // Gaps of a later wave hold nobody back who could be named.
        let since = *self.held_since.get_or_insert(now);
        let holder = match (locked, self.gaps.running()) {
            (true, _) => Some(holder::of_rows(connection, since).await?),
            (false, Some((connection, _))) => {
                Some(Holder { name: format!("a statement of connection {connection}"), age: None })
            }
            (false, None) => None,
        };
        Ok(Fetched { more: !self.gaps.is_waiting(), rows, holder })
    }

    fn undecided(&self, after: i64, rows: &[Row]) -> Vec<Gap> {
        self.gaps.undecided(after, rows.iter().map(|row| row.position.offset))
    }

    /// Goes one step on with these gaps. Returns whether a row of one is locked.
    async fn decide(
        &mut self,
        connection: &mut MySqlConnection,
        tables: &Tables,
        gaps: &[Gap],
        rows: &[Row],
        now: Instant,
    ) -> sqlx::Result<bool> {
        // A connection of the pool may have come to a replica since the cursor was opened. There the rows of
        // one offset may be applied after those of a later one, by threads that are not among the writers.
        if checks::is_read_only(connection).await? {
            return Err(sqlx::Error::Protocol(checks::READ_ONLY.to_owned()));
        }
        let up_to = rows.last().map_or(0, |row| row.position.offset);
        let running = running(connection, self.proof).await?;
        self.gaps.note_running(up_to, running, now);
        if self.gaps.running().is_some() {
            return Ok(false);
        }
        let mut probes = Vec::new();
        for gap in self.gaps.of_wave(gaps) {
            probes.push((gap, probe(connection, tables, gap).await?));
        }
        let locked = probes.iter().any(|(_, probed)| *probed == Probed::Locked);
        let is_late_enough = match self.proof {
            Proof::Processes | Proof::Events => true,
            Proof::Grace(grace) => {
                self.gaps.quiet_since().is_some_and(|since| now.saturating_duration_since(since) >= grace)
            }
        };
        if is_late_enough {
            self.gaps.note_probes(&probes, now);
        } else {
            self.gaps.note_early_probes(&probes, now);
        }
        Ok(locked)
    }
}

/// The statements of others that run now.
async fn running(connection: &mut MySqlConnection, proof: Proof) -> sqlx::Result<HashSet<Statement>> {
    let statement = match proof {
        Proof::Processes => {
            "select cast(id as signed), cast(query_id as signed) from information_schema.processlist
             where command in ('Query', 'Execute') and id <> connection_id()"
        }
        Proof::Events => {
            "select cast(t.processlist_id as signed), cast(e.event_id as signed)
             from performance_schema.events_statements_current e
             join performance_schema.threads t using (thread_id)
             where e.end_event_id is null and t.processlist_id is not null
               and t.processlist_id <> connection_id()"
        }
        Proof::Grace(_) => return Ok(HashSet::new()),
    };
    Ok(sqlx::query_as(statement).fetch_all(connection).await?.into_iter().collect())
}

/// In READ COMMITTED an empty range leaves no lock behind; the transaction ends at once all the same.
async fn probe(connection: &mut MySqlConnection, tables: &Tables, gap: Gap) -> sqlx::Result<Probed> {
    sqlx::raw_sql("set transaction isolation level read committed").execute(&mut *connection).await?;
    let mut transaction = connection.begin().await?;
    let found: sqlx::Result<Option<i64>> = sqlx::query_scalar(AssertSqlSafe(format!(
        "select `offset` from {} where `offset` between ? and ? limit 1 for update nowait",
        tables.messages()
    )))
    .bind(gap.0)
    .bind(gap.1)
    .fetch_optional(&mut *transaction)
    .await;
    transaction.rollback().await?;
    match found {
        Ok(None) => Ok(Probed::Empty),
        Ok(Some(_)) => Ok(Probed::Row),
        Err(error) if is_locked(&error) => Ok(Probed::Locked),
        Err(error) => Err(error),
    }
}

/// MariaDB says that the wait was too long, MySQL that there was none.
fn is_locked(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>())
        .is_some_and(|error| matches!(error.number(), 1205 | 3572))
}
