//! Statements as they are, over a connection of their own: a shell for SQLite is not everywhere.

use sqlx::{
    AssertSqlSafe, ConnectOptions, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};

use super::*;

struct Database(tempfile::TempDir);

impl Database {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn options(&self) -> SqliteConnectOptions {
        let file = self.0.path().join("plain.db");
        SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
    }

    async fn shell(&self, statements: &str) {
        let mut connection = self.options().connect().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut connection).await.unwrap();
    }
}

#[tokio::test]
async fn what_a_shell_inserts_is_received() {
    let database = Database::new();
    let pool = SqlitePool::connect_with(database.options()).await.unwrap();
    let mut subscription = subscribe(&pool, SqlSubscriberConfig::default(), "orders").await;
    let example = statements("SQLite");
    database.shell(&example.replace("commit;", "rollback;")).await;
    database.shell(example).await;
    receive_both(&mut subscription).await;
}

#[tokio::test]
async fn a_queue_takes_the_same_inserts_and_due_times() {
    let database = Database::new();
    let pool = SqlitePool::connect_with(database.options()).await.unwrap();
    let mut subscription = work_on(&pool, "orders").await;
    let later = "insert into watermill_orders (payload, due_ms) values ('9', 4102444800000)";
    database.shell(later).await;
    database.shell(statements("SQLite")).await;
    receive_both(&mut subscription).await;
    database.shell("update watermill_orders set due_ms = 0").await;
    assert_eq!(next(&mut subscription).await.payload(), "9");
}

#[tokio::test]
async fn the_tables_can_be_made_by_hand() {
    let database = Database::new();
    let pool = SqlitePool::connect_with(database.options()).await.unwrap();
    database.shell(tables("SQLite")).await;
    database.shell(statements("SQLite")).await;
    receive_both(&mut subscribe(&pool, SqlSubscriberConfig::default(), "orders").await).await;
}
