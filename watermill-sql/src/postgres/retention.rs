//! Retention, by the primary key, which Go's tables have too.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row as _};

use super::{rows, zone};
use crate::{
    position::Position,
    retention::{Expired, Expiry, RetentionDialect},
};

/// Whether a moment is long ago.
fn old(moment: &str) -> String {
    format!("{moment} < statement_timestamp() - $1::bigint * interval '1 millisecond'")
}

/// Whether a group has yet to read a row: one that reads by lock holders has an offset alone.
const UNREAD: &str = r#"case o.last_processed_transaction_id
    when '0' then l."offset" > coalesce(o.offset_acked, 0)
    else (l.transaction_id, l."offset") > (o.last_processed_transaction_id, coalesce(o.offset_acked, 0)) end"#;

#[async_trait]
impl RetentionDialect for Postgres {
    /// One statement. The limit is part of its text, so that no plan is made for an unknown one.
    async fn expire_read(
        connection: &mut PgConnection,
        expiry: &Expiry,
        after: Position,
    ) -> sqlx::Result<Expired> {
        let (messages, offsets, limit) = (expiry.tables.messages(), expiry.tables.offsets(), expiry.limit);
        let (read, kept_for) = match expiry.has_offsets {
            true => (
                format!(
                    "not exists (select from {offsets} o where {UNREAD})
                     and ($4 or exists (select from {offsets}))"
                ),
                format!(
                    r#"(select o.consumer_group from looked_at l join {offsets} o on {UNREAD} where l.old
                        order by l.transaction_id, l."offset", 1 limit 1)"#
                ),
            ),
            false => ("$4".to_owned(), "null".to_owned()),
        };
        let old = old(&zone::CREATED_AT);
        let row = sqlx::query(AssertSqlSafe(format!(
            r#"with looked_at as materialized (
                select transaction_id, "offset", {old} as old from {messages}
                where (transaction_id, "offset") > ($2::text::xid8, $3)
                order by transaction_id, "offset" limit {limit}
            ),
            expired as materialized (
                select m.transaction_id, m."offset" from looked_at l
                join {messages} m using (transaction_id, "offset")
                where l.old and {read} for update of m skip locked
            ),
            gone as (
                delete from {messages} m using expired e
                where m.transaction_id = e.transaction_id and m."offset" = e."offset" returning 1
            )
            select (select count(*) from looked_at), (select count(*) from gone),
                   last.transaction_id::text, last."offset", {kept_for}::text
            from (select 1) one left join (
                select transaction_id, "offset" from looked_at order by 1 desc, 2 desc limit 1
            ) last on true"#
        )))
        .bind(expiry.keep_ms)
        .bind(after.transaction.to_string())
        .bind(after.offset)
        .bind(expiry.without_groups)
        .fetch_one(connection)
        .await?;
        let looked_at: i64 = row.try_get(0)?;
        Ok(Expired {
            looked_at: usize::try_from(looked_at).unwrap_or(0),
            deleted: count(row.try_get(1)?),
            last: match looked_at {
                0 => after,
                _ => Position { transaction: rows::transaction_id(&row, 2)?, offset: row.try_get(3)? },
            },
            kept_for: row.try_get(4)?,
        })
    }

    /// The cast is for Go's queues, whose offsets are narrower.
    async fn expire_acked(
        connection: &mut PgConnection,
        expiry: &Expiry,
        after: Position,
    ) -> sqlx::Result<Expired> {
        let (messages, limit) = (expiry.tables.messages(), expiry.limit);
        let old = old("created_at::timestamptz");
        let (deleted, last): (i64, Option<i64>) = sqlx::query_as(AssertSqlSafe(format!(
            r#"with expired as materialized (
                select "offset" from {messages} where acked and {old} and "offset" > $2
                order by "offset" limit {limit} for update skip locked
            ),
            gone as (
                delete from {messages} m using expired e where m."offset" = e."offset" returning m."offset"
            )
            select count(*), max("offset")::bigint from gone"#
        )))
        .bind(expiry.keep_ms)
        .bind(after.offset)
        .fetch_one(connection)
        .await?;
        let deleted = count(deleted);
        Ok(Expired {
            looked_at: usize::try_from(deleted).unwrap_or(0),
            deleted,
            last: last.unwrap_or(after.offset).into(),
            kept_for: None,
        })
    }
}

fn count(rows: i64) -> u64 {
    u64::try_from(rows).unwrap_or(0)
}
