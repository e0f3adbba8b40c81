//! [`Cursor`]: reading so that no row can come later before one that was read, by lock holders or by
//! snapshot, and refusing at the start what neither can decide.

use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use tokio::time::Instant;

use super::{
    holder, log,
    look::{Holding, Look, Looks},
};
use crate::{
    CommitOrder, SqlSubscriberConfig,
    dialect::{self, Fetched},
    error::{Failure, Trouble},
    position::Position,
    topic::Tables,
};

/// Why a standby will not do.
pub(super) const STANDBY: &str = "the server is a standby, which neither shows writers nor takes acks or claims: \
                                  connect to the primary";

/// The rule that a group reads by, and what it remembers.
#[derive(Debug)]
pub enum Cursor {
    /// See [`CommitOrder::LockHolders`].
    LockHolders(LockHolders),
    /// See [`CommitOrder::Snapshot`].
    Snapshot,
}

/// Reading by lock holders.
#[derive(Debug)]
pub struct LockHolders {
    /// The sequence of the offset, quoted.
    sequence: String,
    /// The table's id, as the catalogue of locks has it.
    table: i64,
    looks: Looks,
    /// Every decided row up to here has been read.
    read: i64,
    /// Since when something that was drawn is undecided.
    open_since: Option<Instant>,
}

/// What decides which rule will do.
struct Facts {
    is_standby: bool,
    is_plain_table: bool,
    has_index: bool,
    /// Quoted, with its schema.
    sequence: Option<String>,
    can_read_sequence: bool,
    cache: i64,
    table: i64,
    position: Position,
    /// The first transaction id that this cluster has not given out.
    next_transaction: u64,
    newest_transaction: Option<u64>,
}

pub(super) async fn open(
    connection: &mut PgConnection,
    tables: &Tables,
    config: &SqlSubscriberConfig,
) -> Result<Cursor, Failure> {
    let facts = facts(connection, tables, config).await.map_err(Failure::of::<sqlx::Postgres>)?;
    let refuse = |why: String| Err(Failure::because(Trouble::Refused, why));
    if facts.is_standby {
        return refuse(STANDBY.to_owned());
    }
    match facts.choose(config.commit_order) {
        Err(why) => refuse(why),
        Ok(CommitOrder::Snapshot) => match facts.ahead(tables) {
            Some(why) => refuse(why),
            None => Ok(Cursor::Snapshot),
        },
        Ok(_) => {
            let sequence = facts.sequence.unwrap_or_default();
            let drawn = drawn(connection, &sequence).await.map_err(Failure::of::<sqlx::Postgres>)?;
            if facts.position.offset > drawn {
                return refuse(format!(
                    "the group is at offset {}, but the table has drawn none above {drawn}, so that nothing \
                     published next would be delivered: select setval('{sequence}', {}), or set the group's \
                     offset_acked",
                    facts.position.offset, facts.position.offset,
                ));
            }
            Ok(Cursor::LockHolders(LockHolders {
                sequence,
                table: facts.table,
                looks: Looks::default(),
                read: 0,
                open_since: None,
            }))
        }
    }
}

impl Cursor {
    pub(super) async fn fetch(
        &mut self,
        connection: &mut PgConnection,
        tables: &Tables,
        after: Position,
        limit: usize,
    ) -> sqlx::Result<Fetched> {
        match self {
            Self::LockHolders(cursor) => cursor.fetch(connection, tables, after.offset, limit).await,
            Self::Snapshot => {
                let rows = log::by_transaction(connection, tables, after, limit).await?;
                let holder = match rows.is_empty() {
                    true => holder::of_snapshot(connection, tables, after).await?,
                    false => None,
                };
                Ok(Fetched { more: rows.len() == limit, rows, holder })
            }
        }
    }
}

impl dialect::Cursor for Cursor {
    fn keeps_connection(&self) -> bool {
        matches!(self, Self::LockHolders(cursor) if cursor.looks.is_open())
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
        limit: usize,
    ) -> sqlx::Result<Fetched> {
        self.read = self.read.max(after);
        let mut rows = self.read_decided(connection, tables, after, limit).await?;
        if rows.is_empty() {
            let look = look(connection, &self.sequence, self.table).await?;
            self.looks.note(look);
            rows = self.read_decided(connection, tables, after, limit).await?;
        }
        let holder = match self.looks.oldest_holder() {
            None => {
                self.open_since = None;
                None
            }
            Some(holding) => {
                let since = *self.open_since.get_or_insert_with(Instant::now);
                Some(holder::of_lock(connection, holding, since).await?)
            }
        };
        Ok(Fetched { more: rows.len() == limit || self.read < self.looks.decided(), rows, holder })
    }

    async fn read_decided(
        &mut self,
        connection: &mut PgConnection,
        tables: &Tables,
        after: i64,
        limit: usize,
    ) -> sqlx::Result<Vec<crate::marshaler::Row>> {
        let decided = self.looks.decided();
        if self.read >= decided {
            return Ok(Vec::new());
        }
        let rows = log::by_offset(connection, tables, after, decided, limit).await?;
        self.read = match rows.last() {
            Some(last) if rows.len() == limit => last.position.offset,
            _ => decided,
        };
        Ok(rows)
    }
}

impl Facts {
    /// Which rule this group reads by, or why it cannot read.
    fn choose(&self, wanted: CommitOrder) -> Result<CommitOrder, String> {
        let Position { transaction, offset } = self.position;
        match wanted {
            CommitOrder::Snapshot if transaction == 0 && offset > 0 => Err(
                "the group has been read in the order of offsets, which has no place in that of transactions: \
                 use CommitOrder::LockHolders, or a new group"
                    .to_owned(),
            ),
            CommitOrder::Snapshot => Ok(CommitOrder::Snapshot),
            CommitOrder::LockHolders if transaction != 0 => Err(
                "the group has been read in the order of transactions, by Go or by CommitOrder::Snapshot: \
                 use CommitOrder::Snapshot, or a new group"
                    .to_owned(),
            ),
            CommitOrder::LockHolders => self.check_lock_holders().map(|()| CommitOrder::LockHolders),
            CommitOrder::Auto if transaction != 0 => Ok(CommitOrder::Snapshot),
            CommitOrder::Auto if offset == 0 && !self.suits_lock_holders() => Ok(CommitOrder::Snapshot),
            CommitOrder::Auto => self.check_lock_holders().map(|()| CommitOrder::LockHolders),
        }
    }

    /// Whether the table is as we make them.
    fn suits_lock_holders(&self) -> bool {
        self.is_plain_table && self.has_index && self.sequence.is_some() && self.can_read_sequence
    }

    fn check_lock_holders(&self) -> Result<(), String> {
        let why = if !self.is_plain_table {
            "the messages table is not an ordinary table, so that writers lock other ones".to_owned()
        } else if !self.has_index {
            "the messages table has no index on \"offset\" alone: create one".to_owned()
        } else if self.sequence.is_none() {
            "the offset is drawn from no sequence of its own: let the sequence be owned by the column"
                .to_owned()
        } else if !self.can_read_sequence {
            "the account may not read the sequence of the offset: grant select on it".to_owned()
        } else if self.cache != 1 {
            let sequence = self.sequence.as_deref().unwrap_or_default();
            return Err(format!(
                "sessions draw {} offsets ahead from {sequence}, so that a lower one may appear at any time: \
                 alter sequence {sequence} cache 1, or use CommitOrder::Snapshot with a new group",
                self.cache
            ));
        } else {
            return Ok(());
        };
        Err(format!("{why}, or use CommitOrder::Snapshot with a new group"))
    }

    /// Whether the tables come from a cluster that had given out more transaction ids than this one.
    fn ahead(&self, tables: &Tables) -> Option<String> {
        let newest = self.newest_transaction.unwrap_or(0).max(self.position.transaction);
        if newest < self.next_transaction {
            return None;
        }
        let (messages, offsets) = (tables.messages(), tables.offsets());
        Some(format!(
            "the table was restored from a cluster that was at transaction {newest}, and this one is at {}: \
             what is published next would not be delivered. Stop the topic's readers and run: begin; \
             update {offsets} set offset_acked = coalesce((select min(m.\"offset\") - 1 from {messages} m \
             where (m.transaction_id, m.\"offset\") > (last_processed_transaction_id, offset_acked)), \
             (select max(\"offset\") from {messages}), 0), last_processed_transaction_id = '3'; \
             update {messages} set transaction_id = '3'; commit",
            self.next_transaction
        ))
    }
}

async fn facts(
    connection: &mut PgConnection,
    tables: &Tables,
    config: &SqlSubscriberConfig,
) -> sqlx::Result<Facts> {
    // The group's row may have been deleted since it was made: then it begins again.
    let row = sqlx::query(AssertSqlSafe(format!(
        r#"select pg_is_in_recovery(), c.relkind = 'r',
                  exists (select 1 from pg_index i join pg_attribute a
                              on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
                          where i.indrelid = c.oid and a.attname = 'offset' and i.indisvalid
                            and i.indpred is null),
                  s.name, coalesce(has_sequence_privilege(s.name, 'select'), false),
                  coalesce((select seqcache from pg_sequence where seqrelid = s.name::regclass), 1),
                  c.oid::bigint,
                  coalesce(o.offset_acked, 0), coalesce(o.last_processed_transaction_id, '0')::text,
                  pg_snapshot_xmax(pg_current_snapshot())::text,
                  (select transaction_id::text from {messages} m
                   order by m.transaction_id desc, m."offset" desc limit 1)
           from pg_class c
           left join {offsets} o on o.consumer_group = $2
           cross join lateral (select pg_get_serial_sequence($1, 'offset') as name) s
           where c.oid = to_regclass($1)"#,
        messages = tables.messages(),
        offsets = tables.offsets(),
    )))
    .bind(tables.messages())
    .bind(config.group_name())
    .fetch_one(connection)
    .await?;
    let newest: Option<String> = row.try_get(10)?;
    Ok(Facts {
        is_standby: row.try_get(0)?,
        is_plain_table: row.try_get(1)?,
        has_index: row.try_get(2)?,
        sequence: row.try_get(3)?,
        can_read_sequence: row.try_get(4)?,
        cache: row.try_get(5)?,
        table: row.try_get(6)?,
        position: Position { transaction: log::transaction_id(&row, 8)?, offset: row.try_get(7)? },
        next_transaction: log::transaction_id(&row, 9)?,
        newest_transaction: newest
            .map(|text| text.parse().map_err(|error| sqlx::Error::Decode(Box::new(error))))
            .transpose()?,
    })
}

/// The last offset that was drawn.
async fn drawn(connection: &mut PgConnection, sequence: &str) -> sqlx::Result<i64> {
    let drawn = format!("select case when is_called then last_value else last_value - 1 end from {sequence}");
    sqlx::query_scalar(AssertSqlSafe(drawn)).fetch_one(connection).await
}

/// The sequence first and then the locks: the inner select refers to the row of the sequence, so that it
/// cannot be run before that was read.
async fn look(connection: &mut PgConnection, sequence: &str, table: i64) -> sqlx::Result<Look> {
    let row = sqlx::query(AssertSqlSafe(format!(
        "select case when s.is_called then s.last_value else s.last_value - 1 end,
                array(select l.virtualtransaction || ' ' || coalesce(l.pid::text, '') from pg_locks l
                      where l.locktype = 'relation' and l.mode = 'RowExclusiveLock' and l.granted
                        and l.relation = $1::bigint::oid
                        and l.database = (select oid from pg_database where datname = current_database())
                        and s.last_value is not null)
         from {sequence} s"
    )))
    .bind(table)
    .fetch_one(connection)
    .await?;
    let holders: Vec<String> = row.try_get(1)?;
    let holders = holders
        .iter()
        .filter_map(|text| text.split_once(' '))
        .map(|(name, pid)| Holding { virtual_transaction: name.to_owned(), pid: pid.parse().ok() });
    Ok(Look { drawn: row.try_get(0)?, holders: holders.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(position: impl Into<Position>) -> Facts {
        Facts {
            is_standby: false,
            is_plain_table: true,
            has_index: true,
            sequence: Some("s".to_owned()),
            can_read_sequence: true,
            cache: 1,
            table: 1,
            position: position.into(),
            next_transaction: 100,
            newest_transaction: Some(50),
        }
    }

    #[test]
    fn a_new_group_reads_by_lock_holders_where_the_table_suits_it() {
        assert_eq!(facts(0).choose(CommitOrder::Auto), Ok(CommitOrder::LockHolders));
        let made_by_go = Facts { has_index: false, ..facts(0) };
        assert_eq!(made_by_go.choose(CommitOrder::Auto), Ok(CommitOrder::Snapshot));
    }

    #[test]
    fn a_group_goes_on_by_the_rule_that_it_has_been_read_by() {
        assert_eq!(facts((7, 3)).choose(CommitOrder::Auto), Ok(CommitOrder::Snapshot));
        assert_eq!(facts(3).choose(CommitOrder::Auto), Ok(CommitOrder::LockHolders));
        assert!(facts(3).choose(CommitOrder::Snapshot).unwrap_err().contains("new group"));
        assert!(facts((7, 3)).choose(CommitOrder::LockHolders).unwrap_err().contains("new group"));
    }

    #[test]
    fn what_lock_holders_cannot_decide_is_refused_with_the_remedy() {
        let cached = Facts { cache: 20, ..facts(0) };
        for order in [CommitOrder::Auto, CommitOrder::LockHolders] {
            assert!(cached.choose(order).unwrap_err().contains("cache 1"));
        }
        for facts in [
            Facts { has_index: false, ..facts(3) },
            Facts { sequence: None, ..facts(3) },
            Facts { can_read_sequence: false, ..facts(3) },
            Facts { is_plain_table: false, ..facts(3) },
        ] {
            assert!(facts.choose(CommitOrder::Auto).is_err());
            assert!(facts.choose(CommitOrder::LockHolders).is_err());
        }
    }
}
