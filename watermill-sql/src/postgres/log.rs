//! Reading logs.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use super::commit_order;
use crate::{
    SqlSubscriberConfig, StartPosition,
    error::Failure,
    log::{Fetched, LogDialect},
    position::Position,
    topic::Tables,
};

#[async_trait]
impl LogDialect for Postgres {
    type Cursor = commit_order::Cursor;

    /// A group that starts at the latest row reads in the order of offsets, unless it must not: then it
    /// starts behind the last transaction that every reader can see.
    async fn create_group(
        connection: &mut PgConnection,
        tables: &Tables,
        config: &SqlSubscriberConfig,
    ) -> sqlx::Result<()> {
        let messages = tables.messages();
        let position = match (config.start, config.commit_order) {
            (StartPosition::Earliest, _) => "select 0::bigint, '0'::xid8".to_owned(),
            (StartPosition::Latest, crate::CommitOrder::Snapshot) => format!(
                r#"select coalesce(last."offset", 0), coalesce(last.transaction_id, '0'::xid8)
                   from (select 1) one left join (
                       select "offset", transaction_id from {messages}
                       where transaction_id < pg_snapshot_xmin(pg_current_snapshot())
                       order by transaction_id desc, "offset" desc limit 1
                   ) last on true"#
            ),
            (StartPosition::Latest, _) => {
                format!(r#"select coalesce(max("offset"), 0), '0'::xid8 from {messages}"#)
            }
        };
        let offsets = tables.offsets();
        sqlx::query(AssertSqlSafe(format!(
            "insert into {offsets} (consumer_group, offset_acked, last_processed_transaction_id)
             select $1, start.* from ({position}) start on conflict do nothing"
        )))
        .bind(config.group_name())
        .execute(connection)
        .await
        .map(drop)
    }

    async fn open_cursor(
        connection: &mut PgConnection,
        tables: &Tables,
        config: &SqlSubscriberConfig,
    ) -> Result<commit_order::Cursor, Failure> {
        commit_order::open(connection, tables, config).await
    }

    async fn fetch(
        connection: &mut PgConnection,
        tables: &Tables,
        cursor: &mut commit_order::Cursor,
        after: Position,
        limit: usize,
    ) -> sqlx::Result<Fetched> {
        cursor.fetch(connection, tables, after, limit).await
    }
}
