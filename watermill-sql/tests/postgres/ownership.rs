//! Who reads: leases, hand-overs, take-overs.

use super::*;

#[tokio::test]
async fn a_graceful_stop_hands_over_at_once() {
    let database = Database::default();
    let pool = database.pool().await;
    publisher(&pool).publish("t", numbered(0..4)).await.unwrap();
    // With a lease of an hour only the hand-over can make this test end.
    let config = SqlSubscriberConfig::default().lease(Duration::from_secs(3600));
    let subscriber = subscriber_with(&pool, config);
    let mut first = subscriber.subscribe("t").await.unwrap();
    assert_eq!(payload(&mut first).await, "0");
    let mut second = subscriber.subscribe("t").await.unwrap();
    let outstanding = next(&mut first).await;
    assert!(second.next().now_or_never().is_none());
    first.close().await.unwrap();
    let again = next(&mut second).await;
    assert_eq!((again.payload().as_ref(), again.info().attempt()), (&b"1"[..], 2));
    again.ack();
    assert_eq!(outstanding.ack_confirmed().await.unwrap_err().kind(), SettleErrorKind::Lost);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_owner_is_fenced_off_after_a_take_over() {
    let database = Database::default();
    let pool = database.pool().await;
    publisher(&pool).publish("t", numbered(0..3)).await.unwrap();
    let config = SqlSubscriberConfig::default().lease(Duration::from_millis(300));
    let process = process();
    let (mut zombie, outstanding) = awake(process, async {
        let mut zombie =
            subscriber_with(&database.pool().await, config.clone()).subscribe("t").await.unwrap();
        let outstanding = next(&mut zombie).await;
        (zombie, outstanding)
    });
    let watch = outstanding.cancellation();
    let mut successor = subscriber_with(&pool, config).subscribe("t").await.unwrap();
    let again = next(&mut successor).await;
    assert_eq!(again.payload(), "0");
    assert!(again.info().redelivered());
    again.ack_confirmed().await.unwrap();
    let refused = awake(process, outstanding.ack_confirmed()).unwrap_err();
    assert_eq!(refused.kind(), SettleErrorKind::Lost);
    awake(process, watch.cancelled());
    assert_eq!(payload(&mut successor).await, "1");
    successor.close().await.unwrap();
    assert_eq!(position(&pool, "t", "").await.1, 2);
    assert_eq!(awake(process, payload(&mut zombie)), "2");
}

/// A process of its own, which is frozen unless something is awaited in it.
fn process() -> &'static tokio::runtime::Runtime {
    let process = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // A runtime cannot be dropped inside of another one.
    Box::leak(Box::new(process))
}

fn awake<T>(process: &tokio::runtime::Runtime, future: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| process.block_on(future))
}

#[tokio::test]
async fn a_go_reader_at_work_is_waited_for_and_its_progress_taken_over() {
    let database = Database::default();
    let pool = database.pool().await;
    create_go_tables(&pool, "t", "json").await;
    publisher(&pool).publish("t", numbered(0..2)).await.unwrap();
    let subscriber = subscriber(&pool);
    subscriber.initialize("t").await.unwrap();
    // It holds its group's row while its handler runs, and then moves it.
    let mut go = pool.begin().await.unwrap();
    sqlx::query("select * from watermill_offsets_t where consumer_group = '' for update")
        .execute(&mut *go)
        .await
        .unwrap();
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    assert!(matches!(subscription.status().health, Health::Degraded { reason } if reason.contains("Go")));
    sqlx::query(
        "update watermill_offsets_t set (offset_acked, last_processed_transaction_id) =
             (select \"offset\", transaction_id from watermill_t order by \"offset\" limit 1)",
    )
    .execute(&mut *go)
    .await
    .unwrap();
    go.commit().await.unwrap();
    assert_eq!(payload(&mut subscription).await, "1");
}

#[tokio::test]
async fn a_position_that_is_set_back_by_hand_is_read_again() {
    let database = Database::default();
    let pool = database.pool().await;
    publisher(&pool).publish("t", numbered(0..2)).await.unwrap();
    let config = SqlSubscriberConfig::default().lease(Duration::from_millis(300));
    let mut subscription = subscriber_with(&pool, config).subscribe("t").await.unwrap();
    next(&mut subscription).await.ack_confirmed().await.unwrap();
    execute(&pool, "update watermill_offsets_t set offset_acked = 0").await;
    let refused = next(&mut subscription).await.ack_confirmed().await.unwrap_err();
    assert_eq!(refused.kind(), SettleErrorKind::Lost);
    assert_eq!(payload(&mut subscription).await, "0");
    next(&mut subscription).await.ack_confirmed().await.unwrap();
    // An idle reader notices with its next renewal.
    execute(&pool, "update watermill_offsets_t set offset_acked = 1").await;
    assert_eq!(payload(&mut subscription).await, "1");
}
