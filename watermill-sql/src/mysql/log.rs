//! Reading logs.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, MySql, MySqlConnection};

use super::probe;
use crate::{
    SqlSubscriberConfig, StartPosition,
    error::Failure,
    log::{Fetched, LogDialect},
    position::Position,
    topic::Tables,
};

#[async_trait]
impl LogDialect for MySql {
    type Cursor = probe::Cursor;

    /// A Go reader at work has the group's row locked, so a row that is there is not touched.
    async fn create_group(
        connection: &mut MySqlConnection,
        tables: &Tables,
        config: &SqlSubscriberConfig,
    ) -> sqlx::Result<()> {
        let offsets = tables.offsets();
        let there: Option<i64> =
            sqlx::query_scalar(AssertSqlSafe(format!("select 1 from {offsets} where consumer_group = ?")))
                .bind(config.group_name())
                .fetch_optional(&mut *connection)
                .await?;
        if there.is_some() {
            return Ok(());
        }
        let position = match config.start {
            StartPosition::Earliest => "select 0 as last".to_owned(),
            StartPosition::Latest => {
                format!("select coalesce(max(`offset`), 0) as last from {}", tables.messages())
            }
        };
        sqlx::query(AssertSqlSafe(format!(
            "insert ignore into {offsets} (consumer_group, offset_acked, offset_consumed)
             select ?, start.last, start.last from ({position}) start"
        )))
        .bind(config.group_name())
        .execute(connection)
        .await
        .map(drop)
    }

    async fn open_cursor(
        connection: &mut MySqlConnection,
        tables: &Tables,
        config: &SqlSubscriberConfig,
    ) -> Result<probe::Cursor, Failure> {
        probe::open(connection, tables, config).await
    }

    async fn fetch(
        connection: &mut MySqlConnection,
        tables: &Tables,
        cursor: &mut probe::Cursor,
        after: Position,
        limit: usize,
    ) -> sqlx::Result<Fetched> {
        cursor.fetch(connection, tables, after, limit).await
    }
}
