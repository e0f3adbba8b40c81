//! By which rule a group reads, and refusing at the start what neither can decide, with the remedy.

use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::rows;
use crate::{
    CommitOrder, SqlSubscriberConfig,
    error::{Failure, Trouble, classify},
    position::Position,
    source::Mapping,
    topic::Tables,
};

/// Why a standby will not do.
pub(super) const STANDBY: &str = "the server is a standby, which neither shows writers nor takes acks or claims: \
                                  connect to the primary";

/// Refuses servers that cannot be written to.
pub(super) async fn check_server(connection: &mut PgConnection) -> Result<(), Failure> {
    let is_standby = sqlx::query_scalar("select pg_is_in_recovery()").fetch_one(connection).await;
    match is_standby.map_err(classify::<sqlx::Postgres>)? {
        true => Err(Failure::because(Trouble::Refused, STANDBY)),
        false => Ok(()),
    }
}

/// What decides which rule will do.
pub(super) struct Facts {
    pub(super) is_standby: bool,
    /// Neither partitioned nor inherited from.
    is_plain_table: bool,
    has_index: bool,
    /// Quoted, with its schema.
    pub(super) sequence: Option<String>,
    can_read_sequence: bool,
    cache: i64,
    increment: i64,
    pub(super) position: Position,
    /// The first transaction id that this cluster has not given out.
    next_transaction: u64,
    newest_transaction: Option<u64>,
    /// The column that gives the order, where the table is not ours.
    source_offset: Option<String>,
}

impl Facts {
    /// Looks a topic and a group up.
    pub(super) async fn of(
        connection: &mut PgConnection,
        tables: &Tables,
        config: &SqlSubscriberConfig,
    ) -> sqlx::Result<Self> {
        if let Some(mapping) = tables.mapping() {
            return Self::of_source(connection, tables, mapping, config).await;
        }
        // The group's row may have been deleted since it was made: then it begins again.
        let row = sqlx::query(AssertSqlSafe(format!(
            r#"select pg_is_in_recovery(), c.relkind = 'r' and not exists (select from pg_inherits where inhparent = c.oid),
                      exists (select 1 from pg_index i join pg_attribute a
                                  on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
                              where i.indrelid = c.oid and a.attname = 'offset' and i.indisvalid
                                and i.indpred is null),
                      s.name, coalesce(has_sequence_privilege(s.name, 'select'), false),
                      coalesce(q.seqcache, 1), coalesce(q.seqincrement, 1),
                      coalesce(o.offset_acked, 0), coalesce(o.last_processed_transaction_id, '0')::text,
                      pg_snapshot_xmax(pg_current_snapshot())::text,
                      (select transaction_id::text from {messages} m
                       order by m.transaction_id desc, m."offset" desc limit 1)
               from pg_class c
               left join {offsets} o on o.consumer_group = $2
               cross join lateral (select pg_get_serial_sequence($1, 'offset') as name) s
               left join pg_sequence q on q.seqrelid = s.name::regclass
               where c.oid = to_regclass($1)"#,
            messages = tables.messages(),
            offsets = tables.offsets(),
        )))
        .bind(tables.messages())
        .bind(config.group_name())
        .fetch_one(connection)
        .await?;
        let newest: Option<String> = row.try_get(10)?;
        Ok(Self {
            is_standby: row.try_get(0)?,
            is_plain_table: row.try_get(1)?,
            has_index: row.try_get(2)?,
            sequence: row.try_get(3)?,
            can_read_sequence: row.try_get(4)?,
            cache: row.try_get(5)?,
            increment: row.try_get(6)?,
            position: Position { transaction: rows::transaction_id(&row, 8)?, offset: row.try_get(7)? },
            next_transaction: rows::transaction_id(&row, 9)?,
            newest_transaction: newest
                .map(|text| text.parse().map_err(|error| sqlx::Error::Decode(Box::new(error))))
                .transpose()?,
            source_offset: None,
        })
    }

    /// The same for a table that is not ours, which has no transaction ids.
    async fn of_source(
        connection: &mut PgConnection,
        tables: &Tables,
        mapping: &Mapping,
        config: &SqlSubscriberConfig,
    ) -> sqlx::Result<Self> {
        let row = sqlx::query(AssertSqlSafe(format!(
            r#"select pg_is_in_recovery(), c.relkind = 'r' and not exists (select from pg_inherits where inhparent = c.oid),
                      exists (select 1 from pg_index i where i.indrelid = c.oid and i.indkey[0] = a.attnum
                                  and i.indisvalid and i.indpred is null),
                      s.name, coalesce(has_sequence_privilege(s.name, 'select'), false),
                      coalesce(q.seqcache, 1), coalesce(q.seqincrement, 1), coalesce(o.offset_acked, 0),
                      a.attidentity <> '' or coalesce(pg_get_expr(d.adbin, d.adrelid) like 'nextval(%', false)
               from pg_class c
               join pg_attribute a on a.attrelid = c.oid and a.attname = $2
               left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
               left join {offsets} o on o.consumer_group = $3
               cross join lateral (select pg_get_serial_sequence($1, $2) as name) s
               left join pg_sequence q on q.seqrelid = s.name::regclass
               where c.oid = to_regclass($1)"#,
            offsets = tables.offsets(),
        )))
        .bind(&mapping.table)
        .bind(mapping.source.offset.as_deref().unwrap_or_default())
        .bind(config.group_name())
        .fetch_one(connection)
        .await?;
        // A sequence that the column owns and does not draw from tells nothing.
        let draws: bool = row.try_get(8)?;
        Ok(Self {
            is_standby: row.try_get(0)?,
            is_plain_table: row.try_get(1)?,
            has_index: row.try_get(2)?,
            sequence: row.try_get::<Option<String>, _>(3)?.filter(|_| draws),
            can_read_sequence: row.try_get(4)?,
            cache: row.try_get(5)?,
            increment: row.try_get(6)?,
            position: row.try_get::<i64, _>(7)?.into(),
            next_transaction: 0,
            newest_transaction: None,
            source_offset: mapping.source.offset.clone(),
        })
    }

    /// Which rule this group reads by, or why it cannot read.
    pub(super) fn choose(&self, wanted: CommitOrder) -> Result<CommitOrder, String> {
        let Position { transaction, offset } = self.position;
        match wanted {
            CommitOrder::Snapshot if self.source_offset.is_some() => Err(
                "the table of the source has no transaction ids, which CommitOrder::Snapshot reads by: use \
                 CommitOrder::LockHolders"
                    .to_owned(),
            ),
            CommitOrder::Auto if self.source_offset.is_some() => {
                self.check_lock_holders().map(|()| CommitOrder::LockHolders)
            }
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
        let sequence = self.sequence.as_deref().unwrap_or_default();
        let column = self.source_offset.as_deref().unwrap_or("offset");
        let way_out = match self.source_offset {
            None => "use CommitOrder::Snapshot with a new group",
            Some(_) => "work on it as a queue, with SqlQueueSubscriberConfig::source",
        };
        let why = if !self.is_plain_table {
            "the messages table is not an ordinary table, so that writers lock other ones".to_owned()
        } else if !self.has_index {
            format!("the messages table has no index on {column:?} alone: create one")
        } else if self.sequence.is_none() {
            format!(
                "the column {column:?} draws from no sequence of its own, so that it cannot be known which numbers \
                 are still to come: let it be an identity column, or its default the next value of a sequence that it \
                 owns"
            )
        } else if !self.can_read_sequence {
            "the account may not read the sequence of the offset: grant select on it".to_owned()
        } else if self.increment != 1 {
            return Err(format!(
                "{sequence} counts by {}, as where several primaries draw offsets, whose writers are not seen \
                 here: alter sequence {sequence} increment 1, and write to one primary{}",
                self.increment,
                if self.source_offset.is_some() { format!(", or {way_out}") } else { String::new() },
            ));
        } else if self.cache != 1 {
            return Err(format!(
                "sessions draw {} offsets ahead from {sequence}, so that a lower one may appear at any time: \
                 alter sequence {sequence} cache 1, or {way_out}",
                self.cache
            ));
        } else {
            return Ok(());
        };
        Err(format!("{why}, or {way_out}"))
    }

    /// Whether the tables come from a cluster that had given out more transaction ids than this one.
    pub(super) fn ahead(&self, tables: &Tables) -> Option<String> {
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
            increment: 1,
            position: position.into(),
            next_transaction: 100,
            newest_transaction: Some(50),
            source_offset: None,
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
        let counted = Facts { increment: 2, ..facts(0) };
        assert!(counted.choose(CommitOrder::Auto).unwrap_err().contains("one primary"));
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
