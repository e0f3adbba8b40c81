//! [`Durable`]: databases on servers that flush every commit.

use async_trait::async_trait;
use sqlx::{MySql, Pool, Postgres};
use watermill_testkit::{PrivateServer, Service};

use crate::database::{self, Bench};

/// A database of which there are durable servers.
#[async_trait]
pub(crate) trait Durable: Bench {
    const SERVICE: Service;

    /// Creates an empty database. Blocks.
    fn database_on(url: &str) -> Self::Database;

    /// What the database is called.
    async fn name(pool: &Pool<Self>) -> String;

    /// How much the server was asked: transactions of the database, where each question is one, or questions.
    async fn asked(pool: &Pool<Self>) -> i64;
}

#[async_trait]
impl Durable for Postgres {
    const SERVICE: Service = Service::POSTGRES;

    fn database_on(url: &str) -> Self::Database {
        database::postgres_on(url)
    }

    async fn name(pool: &Pool<Self>) -> String {
        sqlx::query_scalar("select current_database()::text").fetch_one(pool).await.expect("its name")
    }

    async fn asked(pool: &Pool<Self>) -> i64 {
        let counted =
            "select xact_commit + xact_rollback from pg_stat_database where datname = current_database()";
        sqlx::query_scalar(counted).fetch_one(pool).await.expect("the server counts")
    }
}

#[async_trait]
impl Durable for MySql {
    const SERVICE: Service = Service::MYSQL;

    fn database_on(url: &str) -> Self::Database {
        database::mysql_on(url)
    }

    async fn name(pool: &Pool<Self>) -> String {
        sqlx::query_scalar("select database()").fetch_one(pool).await.expect("its name")
    }

    async fn asked(pool: &Pool<Self>) -> i64 {
        let counted = "select cast(variable_value as signed) from information_schema.global_status
                       where variable_name = 'QUESTIONS'";
        sqlx::query_scalar(counted).fetch_one(pool).await.expect("the server counts")
    }
}

/// Starts a server, which goes with what is returned. Blocks.
pub(crate) fn start<D: Durable>() -> PrivateServer {
    tokio::task::block_in_place(|| PrivateServer::start_durable(D::SERVICE))
}

/// A database there, a pool, and its URL for another process.
pub(crate) async fn database<D: Durable>(
    server: &PrivateServer,
    connections: u32,
) -> (D::Database, Pool<D>, String) {
    let database = tokio::task::block_in_place(|| D::database_on(server.url()));
    let pool = D::pool(&database, connections).await;
    let (address, _) = server.url().rsplit_once('/').expect("a URL with a database");
    let url = format!("{address}/{}", D::name(&pool).await);
    (database, pool, url)
}
