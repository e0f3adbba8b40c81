//! Queues in order by key.

use super::*;
use watermill_sql::{Layout, SqlQueueSubscriber, SqlQueueSubscriberConfig};

/// The index by key is in the order of hashes: whatever is written there for each of many keys is written to a page of
/// its own.
#[tokio::test]
async fn a_claim_of_single_rows_writes_nothing_to_the_index_by_key() {
    const KEYS: usize = 50;
    const INDEXED: &str = "select sum(c.reltuples)::bigint from pg_index i join pg_class c on c.oid = i.indexrelid
        where i.indrelid = 'watermill_t'::regclass
          and i.indkey[0] = (select attnum from pg_attribute where attrelid = i.indrelid and attname = 'ordering_key')";
    let database = Database::default();
    let pool = database.pool().await;
    let config = SqlQueueSubscriberConfig::default().ordered_by_key(true);
    let worker = SqlQueueSubscriber::new(pool.clone(), config).unwrap();
    worker.initialize("t").await.unwrap();
    let layout = SqlPublisherConfig::default().layout(Layout::Queue);
    let messages = (0..KEYS).map(|n| Message::new("{}").with_key(n.to_string()));
    let publisher = SqlPublisher::new(pool.clone(), layout).unwrap();
    publisher.publish("t", messages.collect()).await.unwrap();

    let mut subscription = worker.subscribe("t").await.unwrap();
    let mut held = Vec::new();
    for _ in 0..KEYS {
        held.push(within("a message of each key", subscription.next()).await.unwrap().unwrap());
    }
    // It counts what is in an index.
    sqlx::raw_sql("vacuum (index_cleanup on) watermill_t").execute(&pool).await.unwrap();
    let indexed: i64 = sqlx::query_scalar(INDEXED).fetch_one(&pool).await.unwrap();
    let holding: i64 = sqlx::query_scalar("select count(*) from watermill_t where holds_key is not null")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!((usize::try_from(holding).unwrap(), indexed), (KEYS, 0));
}
