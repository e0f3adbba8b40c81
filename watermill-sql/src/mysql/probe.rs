//! [`Cursor`]: reading in the order of offsets, with the statements that decide gaps.

use std::{collections::BTreeSet, time::Duration};

use sqlx::{AssertSqlSafe, Connection as _, MySql, MySqlConnection};
use tokio::time::Instant;

use super::{
    checks,
    connection::READ_COMMITTED,
    errors,
    gaps::{Gap, Gaps, Probed},
    holder, rows, statements,
};
use crate::{
    SqlSubscriberConfig,
    connection::ConnectionDialect as _,
    error::Failure,
    log::{self as logs, Fetched},
    position::Position,
    stored::{Limit, Row},
    topic::Tables,
};

/// How it is known that those have ended who may have drawn an offset of a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// MariaDB's list of processes numbers their statements.
    Processes,
    /// And its list of metadata locks tells which of them have the table open.
    Writers,
    /// MySQL's performance schema does.
    Events,
    /// They cannot be seen: time must do.
    Grace,
}

/// What a reader knows about gaps.
#[derive(Debug)]
pub struct Cursor {
    proof: Proof,
    grace: Duration,
    /// How long a transaction of ours may be silent before the server ends it.
    silence: Duration,
    gaps: Gaps,
    /// The groups of the other shards, where it reads one.
    others: Vec<String>,
    /// There was a row, which may be gone.
    reach: i64,
    /// The first missing offset that the reader waits for, and since when.
    held: Option<(i64, Instant)>,
}

impl logs::Cursor for Cursor {
    fn reaches(&mut self, offset: i64) {
        self.reach = offset;
    }
}

pub(super) async fn open(
    connection: &mut MySqlConnection,
    tables: &Tables,
    config: &SqlSubscriberConfig,
) -> Result<Cursor, Failure> {
    let facts = checks::check(connection, tables, config).await?;
    let proof = match (facts.sees_others, facts.is_mariadb) {
        (true, true) if facts.tells_locks => Proof::Writers,
        (true, true) => Proof::Processes,
        (_, false) if statements::are_numbered(connection).await.unwrap_or(false) => Proof::Events,
        _ => Proof::Grace,
    };
    let cursor = Cursor {
        proof,
        grace: config.gap_grace,
        silence: config.lease,
        gaps: Gaps::default(),
        others: config.other_shards(),
        reach: 0,
        held: None,
    };
    if cursor.proof == Proof::Grace {
        cursor.warn(tables);
    }
    Ok(cursor)
}

impl Cursor {
    /// One statement while nothing is missing.
    pub(super) async fn fetch(
        &mut self,
        connection: &mut MySqlConnection,
        tables: &Tables,
        after: Position,
        limit: Limit,
    ) -> sqlx::Result<Fetched> {
        let after = after.offset;
        self.gaps.forget_up_to(after);
        // It is asked for again: positions may be set back.
        self.gaps.forget_decided();
        let read = rows::visible(connection, tables, after, limit).await?;
        let (more, is_cut, mut rows) = (read.are_more(limit), read.is_cut, read.rows);
        let mut gaps = self.undecided(after, &rows, more);
        if gaps.is_empty() {
            self.gaps.clear(after);
            self.held = None;
            return Ok(Fetched { rows, more, is_cut, undecided: false, holder: None });
        }
        let now = Instant::now();
        if !self.others.is_empty() {
            // Their shards' rows may have been deleted, as a source's are that are done with.
            refuse_replica(connection).await?;
            self.gaps.note_decided(self.passed_by_others(connection, tables).await?);
            gaps = self.undecided(after, &rows, more);
        }
        let locked = match gaps.is_empty() {
            true => false,
            false => self.decide(connection, tables, &gaps, &rows, now).await?,
        };
        // Rows may have appeared, which were missing before.
        let read = rows::visible(connection, tables, after, limit).await?;
        let (more, is_cut) = (read.are_more(limit), read.is_cut);
        rows = read.rows;
        gaps = self.undecided(after, &rows, more);
        let Some(&(first, _)) = gaps.first() else {
            self.held = None;
            return Ok(Fetched { more, is_cut, rows, undecided: false, holder: None });
        };
        rows.retain(|row| row.position.offset < first);
        let since = match self.held {
            Some((gap, since)) if gap == first => since,
            _ => now,
        };
        self.held = Some((first, since));
        // While rows come, nobody holds the reader back. Gaps of a later wave hold nobody back who could be named.
        let holder = match self.gaps.running() {
            _ if is_cut => None,
            _ if !rows.is_empty() => None,
            _ if locked => Some(holder::of_rows(connection, since).await?),
            Some(statement) => Some(holder::of_statement(statement, since)),
            None => None,
        };
        Ok(Fetched { more: !self.gaps.is_waiting(), is_cut, rows, undecided: true, holder })
    }

    fn warn(&self, tables: &Tables) {
        tracing::warn!(
            topic = tables.topic(),
            grace = ?self.grace,
            "the account cannot see the statements of others, or the server does not number them: a missing \
             offset is passed when it is found empty twice, gap_grace apart; grant process on *.* (and on \
             MySQL turn the performance schema on, with all of its statement instruments) to have it decided \
             exactly"
        );
    }

    fn undecided(&self, after: i64, rows: &[Row], more: bool) -> Vec<Gap> {
        let behind = (!more).then_some(self.reach.saturating_add(1)).filter(|_| self.reach > after);
        let last = rows.last().map_or(after, |row| row.position.offset);
        let behind = behind.filter(|behind| last < *behind);
        self.gaps.undecided(after, rows.iter().map(|row| row.position.offset).chain(behind))
    }

    /// How far readers of other shards have come: they read the same rows, and decide the same gaps.
    async fn passed_by_others(&self, connection: &mut MySqlConnection, tables: &Tables) -> sqlx::Result<i64> {
        let groups = vec!["?"; self.others.len()].join(", ");
        let passed = format!(
            "select cast(coalesce(max(offset_acked), 0) as signed) from {} where consumer_group in ({groups})",
            tables.offsets()
        );
        let passed = sqlx::query_scalar(AssertSqlSafe(passed));
        self.others.iter().fold(passed, |passed, group| passed.bind(group)).fetch_one(connection).await
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
        refuse_replica(connection).await?;
        let seen = rows.last().map_or(0, |row| row.position.offset);
        let up_to = gaps.last().map_or(seen, |(_, last)| seen.max(last.saturating_add(1)));
        let running = match self.proof {
            Proof::Processes => statements::of_processes(connection).await?,
            Proof::Writers => statements::of_writers(connection, tables).await?,
            Proof::Events => statements::of_events(connection).await?,
            Proof::Grace => Some(BTreeSet::new()),
        };
        let running = running.unwrap_or_else(|| {
            // What was seen so far proves nothing either.
            (self.proof, self.gaps) = (Proof::Grace, Gaps::default());
            self.warn(tables);
            BTreeSet::new()
        });
        self.gaps.note_running(up_to, running, now);
        if self.gaps.running().is_some() {
            return Ok(false);
        }
        let mut probes = Vec::new();
        for gap in self.gaps.of_wave(gaps) {
            probes.push((gap, probe(connection, tables, gap, self.silence).await?));
        }
        let locked = probes.iter().any(|(_, probed)| *probed == Probed::Locked);
        let is_late_enough = match self.proof {
            Proof::Processes | Proof::Writers | Proof::Events => true,
            Proof::Grace => self
                .gaps
                .quiet_since()
                .is_some_and(|since| now.saturating_duration_since(since) >= self.grace),
        };
        if is_late_enough {
            self.gaps.note_probes(&probes, now);
        } else {
            self.gaps.note_early_probes(&probes, now);
        }
        Ok(locked)
    }
}

/// A connection of the pool may have come to a replica since the cursor was opened. There the rows of one offset may be applied
/// after those of a later one, by threads that are not among the writers.
async fn refuse_replica(connection: &mut MySqlConnection) -> sqlx::Result<()> {
    match checks::is_read_only(connection).await? {
        true => Err(sqlx::Error::Protocol(checks::READ_ONLY.to_owned())),
        false => Ok(()),
    }
}

/// In READ COMMITTED an empty range leaves no lock behind; the transaction ends at once all the same.
async fn probe(
    connection: &mut MySqlConnection,
    tables: &Tables,
    gap: Gap,
    silence: Duration,
) -> sqlx::Result<Probed> {
    let begin = format!("{READ_COMMITTED}; {}", MySql::begin(silence).unwrap_or_default());
    let mut transaction = connection.begin_with(AssertSqlSafe(begin)).await?;
    let found: sqlx::Result<Option<i64>> = sqlx::query_scalar(AssertSqlSafe(format!(
        "select cast({offset} as signed) from {} where {offset} between ? and ? limit 1 for update nowait",
        tables.messages(),
        offset = tables.offset(),
    )))
    .bind(gap.0)
    .bind(gap.1)
    .fetch_optional(&mut *transaction)
    .await;
    transaction.rollback().await?;
    MySql::end(connection).await?;
    match found {
        Ok(None) => Ok(Probed::Empty),
        Ok(Some(_)) => Ok(Probed::Row),
        Err(error) if errors::is_locked(&error) => Ok(Probed::Locked),
        Err(error) => Err(error),
    }
}
