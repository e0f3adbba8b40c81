//! What queues share with Go beyond the other databases: a column for due times, in whole seconds.

use watermill_core::PublisherExt;
use watermill_sql::{Layout, SqlQueueSubscriber, SqlQueueSubscriberConfig};

use super::*;

/// Go's queue for delayed messages, as its documentation has it.
const GO_QUEUE: &str = "create table watermill_t (
    `offset` bigint not null auto_increment primary key, uuid varchar(36) not null,
    created_at timestamp not null default current_timestamp, payload json null, metadata json null,
    acked boolean not null default false, delayed_until timestamp null default null,
    index (acked, delayed_until))";

fn queue(pool: &MySqlPool) -> SqlPublisher<MySql> {
    SqlPublisher::new(pool.clone(), SqlPublisherConfig::default().layout(Layout::Queue)).unwrap()
}

fn worker(pool: &MySqlPool) -> SqlQueueSubscriber<MySql> {
    SqlQueueSubscriber::new(pool.clone(), SqlQueueSubscriberConfig::default()).unwrap()
}

#[tokio::test]
async fn a_delay_is_written_where_go_reads_it() {
    let database = Database::default();
    let pool = database.pool().await;
    for made_by_go in [true, false] {
        if made_by_go {
            execute(&pool, GO_QUEUE).await;
        }
        let due = std::time::UNIX_EPOCH + Duration::from_millis(1_999_999_999_500);
        let delayed = Message::new("1").delay_until(due);
        queue(&pool).publish("t", vec![delayed, Message::new("2")]).await.unwrap();
        let read: Vec<Option<i64>> = sqlx::query_scalar(
            "select cast(unix_timestamp(delayed_until) as signed) from watermill_t order by `offset`",
        )
        .fetch_all(&pool)
        .await
        .unwrap();
        assert_eq!(read, [Some(2_000_000_000), None], "made by Go: {made_by_go}");
        execute(&pool, "drop table watermill_t").await;
    }
}

#[tokio::test]
async fn what_only_the_column_of_go_says_is_waited_for() {
    let database = Database::default();
    let pool = database.pool().await;
    execute(&pool, GO_QUEUE).await;
    let insert = "insert into watermill_t (uuid, payload, metadata, delayed_until) values";
    execute(&pool, &format!("{insert} ('1', '1', '{{}}', now() + interval 2 second)")).await;
    execute(&pool, &format!("{insert} ('2', '2', '{{}}', null)")).await;
    let mut subscription = worker(&pool).subscribe("t").await.unwrap();
    assert_eq!(payload(&mut subscription).await, "2");
    let delivery = next(&mut subscription).await;
    let late: i64 = sqlx::query_scalar("select cast(now() >= delayed_until as signed) from watermill_t")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!((late, delivery.info().attempt()), (1, 1));
    delivery.ack();
}

#[tokio::test]
async fn a_delay_of_ours_is_kept_to_the_millisecond_beside_the_seconds_of_go() {
    let database = Database::default();
    let pool = database.pool().await;
    let publisher = queue(&pool);
    publisher.initialize("t").await.unwrap();
    publisher.publish_one("t", Message::new("1").delay_for(Duration::from_millis(300))).await.unwrap();
    let mut subscription = worker(&pool).subscribe("t").await.unwrap();
    let delivery = next(&mut subscription).await;
    assert_eq!(delivery.info().attempt(), 1, "it was not claimed before it was due");
    delivery.ack();
}
