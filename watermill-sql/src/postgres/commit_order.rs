//! [`Cursor`]: reading so that no row can come later before one that was read, by lock holders or by
//! snapshot.

use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use tokio::time::Instant;

use super::{
    checks::{Facts, STANDBY},
    holder::{self, Waited},
    look::{Holding, Look, Looks},
    rows, source,
};
use crate::{
    CommitOrder, SqlSubscriberConfig,
    error::{Failure, Trouble, classify},
    log::{self as logs, Fetched, to_the_beginning},
    position::Position,
    stored::{Limit, Rows},
    topic::Tables,
};

/// The rule that a group reads by, and what it remembers.
#[derive(Debug)]
pub enum Cursor {
    /// See [`CommitOrder::LockHolders`].
    LockHolders(LockHolders),
    /// See [`CommitOrder::Snapshot`].
    Snapshot(Waited),
}

/// Reading by lock holders.
#[derive(Debug)]
pub struct LockHolders {
    /// The sequence of the offset, quoted.
    sequence: String,
    looks: Looks,
    /// Every decided row up to here has been read.
    read: i64,
    /// The last row that was read.
    last: i64,
}

pub(super) async fn open(
    connection: &mut PgConnection,
    tables: &Tables,
    config: &SqlSubscriberConfig,
) -> Result<Cursor, Failure> {
    let facts = Facts::of(connection, tables, config).await.map_err(classify::<sqlx::Postgres>)?;
    let refuse = |why: String| Err(Failure::because(Trouble::Refused, why));
    if facts.is_standby {
        return refuse(STANDBY.to_owned());
    }
    match facts.choose(config.commit_order) {
        Err(why) => refuse(why),
        Ok(CommitOrder::Snapshot) => match facts.ahead(tables) {
            Some(why) => refuse(why),
            None => Ok(Cursor::Snapshot(Waited::default())),
        },
        Ok(_) => {
            let sequence = facts.sequence.unwrap_or_default();
            let drawn = drawn(connection, &sequence).await.map_err(classify::<sqlx::Postgres>)?;
            if facts.position.offset > drawn {
                return refuse(format!(
                    "the group is at offset {}, but the table has drawn none above {drawn}, so that nothing \
                     published next would be delivered: select setval('{sequence}', {}), or, {}",
                    facts.position.offset,
                    facts.position.offset,
                    to_the_beginning::<sqlx::Postgres>(tables, config.group_name()),
                ));
            }
            Ok(Cursor::LockHolders(LockHolders { sequence, looks: Looks::default(), read: 0, last: 0 }))
        }
    }
}

impl Cursor {
    pub(super) async fn fetch(
        &mut self,
        connection: &mut PgConnection,
        tables: &Tables,
        after: Position,
        limit: Limit,
    ) -> sqlx::Result<Fetched> {
        match self {
            Self::LockHolders(cursor) => cursor.fetch(connection, tables, after.offset, limit).await,
            Self::Snapshot(waited) => {
                let mut rows = rows::by_transaction(connection, tables, after, limit).await?;
                let (mut has_writers, mut holder) = (false, None);
                if rows.rows.is_empty() {
                    // The writers first: of those who have gone by then, the rows can be seen.
                    has_writers = holder::has_writers(connection, tables).await?;
                    rows = rows::by_transaction(connection, tables, after, limit).await?;
                }
                let (more, is_cut, rows) = (rows.are_more(limit), rows.is_cut, rows.rows);
                if rows.is_empty() {
                    holder = holder::of_snapshot(connection, tables, after, waited).await?;
                }
                let undecided = has_writers || holder.is_some();
                Ok(Fetched { more, is_cut, undecided, rows, holder })
            }
        }
    }
}

impl logs::Cursor for Cursor {
    fn keeps_connection(&self) -> bool {
        matches!(self, Self::LockHolders(cursor) if cursor.looks.is_open())
    }

    fn is_by_offset(&self) -> bool {
        matches!(self, Self::LockHolders(_))
    }

    fn lose_connection(&mut self) {
        if let Self::LockHolders(cursor) = self {
            cursor.looks.forget();
        }
    }
}

impl LockHolders {
    /// One statement while decided rows are left, and two otherwise: a look, and a read with a snapshot
    /// that was taken after it.
    async fn fetch(
        &mut self,
        connection: &mut PgConnection,
        tables: &Tables,
        after: i64,
        limit: Limit,
    ) -> sqlx::Result<Fetched> {
        // Whoever does not go on from the last row has not taken it in, and wants it again.
        self.read = if after < self.last { after } else { self.read.max(after) };
        let mut rows = self.read_decided(connection, tables, after, limit).await?;
        if rows.rows.is_empty() {
            let look = look(connection, &self.sequence, tables).await?;
            if look.drawn < self.read {
                // What to do about it is said when this cursor is opened again, as after any failure.
                return Err(sqlx::Error::Protocol(format!(
                    "the table's offsets have begun anew: {} was read, and none above {} is drawn",
                    self.read, look.drawn
                )));
            }
            self.looks.note(look);
            rows = self.read_decided(connection, tables, after, limit).await?;
        }
        let (more, is_cut, rows) = (rows.are_more(limit), rows.is_cut, rows.rows);
        self.last = rows.last().map_or(after, |last| last.position.offset);
        // While rows come, nobody holds the reader back.
        let holder = match self.looks.oldest() {
            Some(look) if rows.is_empty() => Some(holder::of_lock(connection, look).await?),
            _ => None,
        };
        let more = more || self.read < self.looks.decided();
        Ok(Fetched { more, is_cut, undecided: self.looks.is_open(), rows, holder })
    }

    async fn read_decided(
        &mut self,
        connection: &mut PgConnection,
        tables: &Tables,
        after: i64,
        limit: Limit,
    ) -> sqlx::Result<Rows> {
        let decided = self.looks.decided();
        if self.read >= decided {
            return Ok(Rows::default());
        }
        let rows = match tables.mapping() {
            None => rows::by_offset(connection, tables, after, decided, limit).await?,
            Some(mapping) => source::by_offset(connection, mapping, after, decided, limit).await?,
        };
        self.read = match rows.rows.last() {
            Some(last) if rows.are_more(limit) => last.position.offset,
            _ => decided,
        };
        Ok(rows)
    }
}

/// The last offset that was drawn.
async fn drawn(connection: &mut PgConnection, sequence: &str) -> sqlx::Result<i64> {
    let drawn = format!("select case when is_called then last_value else last_value - 1 end from {sequence}");
    sqlx::query_scalar(AssertSqlSafe(drawn)).fetch_one(connection).await
}

/// The sequence first and then the locks: the inner select refers to the row of the sequence, so that it
/// cannot be run before that was read. Every look asks anew whether the server shows writers, and which
/// table it is: a connection of the pool may have come to a standby since the cursor was opened, and a table
/// may have been made anew.
pub(super) async fn look(
    connection: &mut PgConnection,
    sequence: &str,
    tables: &Tables,
) -> sqlx::Result<Look> {
    let row = sqlx::query(AssertSqlSafe(format!(
        "select case when s.is_called then s.last_value else s.last_value - 1 end,
                array(select l.virtualtransaction || ' ' || coalesce(l.pid::text, '') from pg_locks l
                      where l.locktype = 'relation' and l.mode = 'RowExclusiveLock' and l.granted
                        and l.relation = to_regclass($1)
                        and l.database = (select oid from pg_database where datname = current_database())
                        and s.last_value is not null),
                pg_is_in_recovery()
         from {sequence} s"
    )))
    .bind(tables.messages())
    .fetch_one(connection)
    .await?;
    if row.try_get(2)? {
        return Err(sqlx::Error::Protocol(STANDBY.to_owned()));
    }
    let holders: Vec<String> = row.try_get(1)?;
    let holders = holders
        .iter()
        .filter_map(|text| text.split_once(' '))
        .map(|(name, pid)| Holding { virtual_transaction: name.to_owned(), pid: pid.parse().ok() });
    Ok(Look { drawn: row.try_get(0)?, holders: holders.collect(), at: Instant::now() })
}
