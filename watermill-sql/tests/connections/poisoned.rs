//! Transactions that are open on a server and that sqlx does not know of, because a `BEGIN` was dropped.

use super::*;

/// A transaction that is left open over a connection of the pool takes what is written over it next with it.
pub(crate) async fn what_is_dropped_in_the_middle_leaves_no_transaction_open_over_a_connection_of_the_pool<
    S: Server,
>() {
    let server = S::default();
    let (pool, other) = (server.pool(1).await, server.pool(1).await);
    for layout in [Layout::Log, Layout::Queue] {
        let topic = format!("{layout:?}").to_lowercase();
        let publisher = publisher::<S>(&pool, layout);
        publisher.publish(&topic, numbered(0..1)).await.unwrap();
        let mut accepted = 1;
        for round in 0..60 {
            // More messages than one statement takes, dropped at about the moment of its BEGIN.
            let publishing = publisher.publish(&topic, numbered(0..1_001));
            let _ = tokio::time::timeout(Duration::from_micros(20 * round), publishing).await;
            publisher.publish(&topic, numbered(0..1)).await.unwrap();
            accepted += 1;
            let there = count::<S>(&other, &topic).await;
            assert_eq!(
                there % 1_001,
                accepted,
                "round {round}: all that was accepted, all of a call or nothing"
            );
        }
    }
}

/// As whoever was given a connection of the pool finds it when a `BEGIN` of the application's was dropped.
async fn forget_a_transaction<S: Server>(pool: &Pool<S::Database>) {
    let mut connection = pool.acquire().await.unwrap();
    S::execute(&mut connection, "begin").await;
}

pub(crate) async fn what_is_published_over_a_connection_with_a_forgotten_transaction_is_there<S: Server>() {
    let server = S::default();
    let other = server.pool(1).await;
    // With more than one connection, a publisher keeps its own for the next call.
    for connections in [1, 3] {
        let pool = server.pool(connections).await;
        forgotten_transactions_take_nothing_with_them::<S>(&pool, &other, connections).await;
        pool.close().await;
    }
}

async fn forgotten_transactions_take_nothing_with_them<S: Server>(
    pool: &Pool<S::Database>,
    other: &Pool<S::Database>,
    connections: u32,
) {
    for layout in [Layout::Log, Layout::Queue] {
        let topic = format!("{layout:?}_{connections}").to_lowercase();
        let publisher = SqlPublisher::new(pool.clone(), publishing(layout)).unwrap();
        publisher.publish(&topic, numbered(0..1)).await.unwrap();
        for messages in [1, 2, 1_001] {
            let before = count::<S>(other, &topic).await;
            forget_a_transaction::<S>(pool).await;
            publisher.publish(&topic, numbered(0..messages)).await.unwrap();
            let published = count::<S>(other, &topic).await - before;
            assert_eq!(published, messages as i64, "{layout:?}");
        }
    }
}

pub(crate) async fn a_publisher_keeps_no_connection_that_others_wait_for<S: Server>() {
    let server = S::default();
    let (pool, other) = (server.pool(2).await, server.pool(1).await);
    let publisher = publisher::<S>(&pool, Layout::Log);
    for round in 1..20 {
        publisher.publish("t", numbered(0..1)).await.unwrap();
        let all = within("all connections", async { (pool.acquire().await, pool.acquire().await) }).await;
        assert!(all.0.is_ok() && all.1.is_ok(), "round {round}");
        assert_eq!(count::<S>(&other, "t").await, round);
    }
    publisher.publish("t", numbered(0..1)).await.unwrap();
    within("the pool", pool.close()).await;
    assert!(publisher.publish("t", numbered(0..1)).await.is_err(), "over a pool that is closed");
}

pub(crate) async fn what_is_acked_over_a_connection_with_a_forgotten_transaction_is_recorded<S: Server>() {
    let server = S::default();
    let (pool, other) = (server.pool(1).await, server.pool(2).await);
    publisher::<S>(&other, Layout::Log).publish("t", numbered(0..20)).await.unwrap();
    let subscriber = reader::<S>(&pool, SqlSubscriberConfig::default().group("g"));
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    let position = "select offset_acked from watermill_offsets_t";
    for _ in 0..20 {
        forget_a_transaction::<S>(&pool).await;
        let delivery = next(&mut subscription).await;
        let offset = delivery.info().offset().unwrap();
        within("the ack", delivery.ack_confirmed()).await.unwrap();
        assert_eq!(S::number(&other, position).await, offset);
    }

    publisher::<S>(&other, Layout::Queue).publish("q", numbered(0..20)).await.unwrap();
    let worker = worker::<S>(&pool, SqlQueueSubscriberConfig::default());
    let mut subscription = worker.subscribe("q").await.unwrap();
    for left in (0..20).rev() {
        forget_a_transaction::<S>(&pool).await;
        let delivery = next(&mut subscription).await;
        within("the ack", delivery.ack_confirmed()).await.unwrap();
        assert_eq!(count::<S>(&other, "q").await, left);
    }
}
