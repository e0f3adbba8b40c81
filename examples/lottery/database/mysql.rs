//! MySQL and MariaDB: tables in a database that exists.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Connection, MySql, MySqlConnection, MySqlPool, mysql::MySqlConnectOptions};
use watermill_core::error::BoxError;

use super::{
    Database,
    kind::{Kind, Sql},
};

const SCHEMA: &str = "
    create table if not exists winners (lottery bigint primary key, winner text not null);
    create table if not exists announcements (lottery bigint primary key);
    create table if not exists prizes (lottery bigint primary key, winner text not null);
";

pub(super) async fn open(options: &MySqlConnectOptions) -> Result<Arc<dyn Database>, BoxError> {
    // A pool would wait for a server that is not there.
    let mut connection = MySqlConnection::connect_with(options)
        .await
        .map_err(|error| format!("connect to MySQL on {}: {error}", options.get_host()))?;
    sqlx::raw_sql(SCHEMA).execute(&mut connection).await?;
    connection.close().await?;
    Ok(Arc::new(Sql { pool: MySqlPool::connect_lazy_with(options.clone()), _folder: None }))
}

#[async_trait]
impl Kind for MySql {
    const STORE: &str = "insert into winners (lottery, winner) values (?, ?)";
    const NOTE_ANNOUNCEMENT: &str = "insert ignore into announcements (lottery) values (?)";
    const SEND_PRIZE: &str = "
        insert into prizes (lottery, winner) select lottery, winner from winners where lottery = ?
        on duplicate key update winner = values(winner)";
    const FROM_FIRST: &str = "where lottery >= ?";

    async fn execute(
        connection: &mut MySqlConnection,
        statement: &'static str,
        lottery: i64,
        winner: Option<&str>,
    ) -> sqlx::Result<u64> {
        let query = sqlx::query(statement).bind(lottery);
        let query = match winner {
            Some(winner) => query.bind(winner),
            None => query,
        };
        Ok(query.execute(connection).await?.rows_affected())
    }

    async fn numbers(connection: &mut MySqlConnection, query: String, first: i64) -> sqlx::Result<Vec<i64>> {
        sqlx::query_scalar(AssertSqlSafe(query)).bind(first).fetch_all(connection).await
    }

    async fn highest(connection: &mut MySqlConnection, query: &'static str) -> sqlx::Result<i64> {
        sqlx::query_scalar(query).fetch_one(connection).await
    }
}
