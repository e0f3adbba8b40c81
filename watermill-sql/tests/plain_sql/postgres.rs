//! `psql`.

#[path = "../postgres_database/mod.rs"]
mod postgres_database;

use std::time::Duration;

use postgres_database::Database;
use sqlx::ConnectOptions;
use watermill_sql::{PayloadColumn, SqlPublisher, SqlPublisherConfig};

use super::*;

async fn psql(database: &Database, statements: &str) {
    // What is after the question mark is for sqlx alone.
    let url = database.options.clone().to_url_lossy();
    let url = url.as_str().split('?').next().unwrap().to_owned();
    let args = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"].map(str::to_owned);
    run("psql", "postgresql-client", &[&args[..], &[url]].concat(), statements).await;
}

/// One that reads when it begins and then only when it is woken.
fn sleeper() -> SqlSubscriberConfig {
    let never = Duration::from_secs(24 * 3600);
    SqlSubscriberConfig::default().poll_interval_min(never).poll_interval_max(never)
}

#[tokio::test]
async fn what_psql_inserts_wakes_the_reader() {
    let database = Database::default();
    let pool = database.pool().await;
    let mut subscription = subscribe(&pool, sleeper(), "orders").await;
    psql(&database, statements("PostgreSQL")).await;
    receive_both(&mut subscription).await;
}

#[tokio::test]
async fn a_rollback_publishes_nothing() {
    let database = Database::default();
    let pool = database.pool().await;
    let mut subscription = subscribe(&pool, SqlSubscriberConfig::default(), "orders").await;
    psql(&database, &statements("PostgreSQL").replace("commit;", "rollback;")).await;
    psql(&database, statements("PostgreSQL")).await;
    receive_both(&mut subscription).await;
}

#[tokio::test]
async fn a_table_that_go_made_needs_the_transaction_and_the_id() {
    let database = Database::default();
    let pool = database.pool().await;
    psql(
        &database,
        r#"create table "watermill_orders" ("offset" bigserial, uuid varchar(36) not null,
               created_at timestamp not null default current_timestamp, payload json default null,
               metadata json default null, transaction_id xid8 not null,
               primary key (transaction_id, "offset"));
           insert into "watermill_orders" (uuid, payload, transaction_id)
           values ('a', '{"order": 7}', pg_current_xact_id());"#,
    )
    .await;
    let delivery = next(&mut subscribe(&pool, SqlSubscriberConfig::default(), "orders").await).await;
    assert_eq!((delivery.id().as_str(), &delivery.payload()[..]), ("a", &br#"{"order": 7}"#[..]));
}

#[tokio::test]
async fn bytes_go_where_the_column_has_bytes() {
    let database = Database::default();
    let pool = database.pool().await;
    let config = SqlPublisherConfig::default().payload_column(PayloadColumn::Bytes);
    SqlPublisher::new(pool.clone(), config).unwrap().initialize("raw").await.unwrap();
    psql(&database, r#"insert into "watermill_raw" (payload) values ('\x00ff');"#).await;
    let delivery = next(&mut subscribe(&pool, SqlSubscriberConfig::default(), "raw").await).await;
    assert_eq!(&delivery.payload()[..], [0, 0xff]);
}

#[tokio::test]
async fn a_queue_takes_the_same_inserts_and_due_times() {
    let database = Database::default();
    let pool = database.pool().await;
    let mut subscription = work_on(&pool, "orders").await;
    let later = "insert into watermill_orders (payload, due_ms) values ('9', 4102444800000);";
    psql(&database, later).await;
    psql(&database, statements("PostgreSQL")).await;
    receive_both(&mut subscription).await;
    psql(&database, "update watermill_orders set due_ms = 0;").await;
    assert_eq!(next(&mut subscription).await.payload(), "9");
}

#[tokio::test]
async fn the_tables_can_be_made_by_hand() {
    let database = Database::default();
    let pool = database.pool().await;
    psql(&database, tables("PostgreSQL")).await;
    psql(&database, statements("PostgreSQL")).await;
    receive_both(&mut subscribe(&pool, SqlSubscriberConfig::default(), "orders").await).await;
}
