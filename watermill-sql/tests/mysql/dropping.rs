//! Futures that are dropped in the middle.

use watermill_testkit::unique;

use super::*;

/// A transaction that is left open over a connection of the pool takes what is written over it next with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_dropped_in_the_middle_leaves_no_transaction_open_over_a_connection_of_the_pool() {
    let database = Database::default();
    let (pool, other) = (database.pool().await, database.pool().await);
    execute(&pool, "create table seen (name varchar(64) primary key)").await;
    let (publisher, subscriber) = (publisher(&pool), subscriber(&pool));
    let owner = subscriber.subscribe("t").await.unwrap();
    for round in 0..60 {
        let moment = Duration::from_micros(100 * round);
        // More messages than one statement takes.
        let publishing = publisher.publish("t", numbered(0..1_001));
        let _ = tokio::time::timeout(moment, publishing).await;
        // One that stands by, and claims again and again.
        let standing_by = tokio::time::timeout(moment, subscriber.subscribe("t")).await;
        drop(standing_by);
    }
    drop(owner);
    subscriber.close().await.unwrap();

    // All connections that there are.
    let mut connections = Vec::new();
    for _ in 0..pool.options().get_max_connections() {
        connections.push(within("a connection", pool.acquire()).await.unwrap());
    }
    for connection in &mut connections {
        let insert = format!("insert into seen values ('{}')", unique("c"));
        sqlx::raw_sql(AssertSqlSafe(insert)).execute(&mut **connection).await.unwrap();
    }
    let seen: i64 = sqlx::query_scalar("select count(*) from seen").fetch_one(&other).await.unwrap();
    assert_eq!(seen, connections.len() as i64);
    assert_eq!(count(&other, "t").await % 1_001, 0, "all of a call or nothing");
}
