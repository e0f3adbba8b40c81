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
    let mut successor = subscriber_with(&pool, config).subscribe("t").await.unwrap();
    let again = next(&mut successor).await;
    assert_eq!(again.payload(), "0");
    assert!(again.info().redelivered());
    again.ack_confirmed().await.unwrap();
    let refused = awake(process, outstanding.ack_confirmed()).unwrap_err();
    assert_eq!(refused.kind(), SettleErrorKind::Lost);
    assert_eq!(payload(&mut successor).await, "1");
    successor.close().await.unwrap();
    assert_eq!(position(&pool, "t", "").await, (2, 2));
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
    sqlx::query("update watermill_offsets_t set offset_acked = 1, offset_consumed = 1")
        .execute(&mut *go)
        .await
        .unwrap();
    go.commit().await.unwrap();
    assert_eq!(payload(&mut subscription).await, "1");
}

#[tokio::test]
async fn a_subscription_goes_on_by_itself_after_every_connection_was_killed() {
    let database = Database::default();
    let (pool, other) = (database.pool().await, database.pool().await);
    publisher(&pool).publish("t", numbered(0..3)).await.unwrap();
    let mut subscription = subscriber(&pool).subscribe("t").await.unwrap();
    assert_eq!(payload(&mut subscription).await, "0");
    let others: Vec<u64> = sqlx::query_scalar(
        "select cast(id as unsigned) from information_schema.processlist
         where db = database() and id <> connection_id()",
    )
    .fetch_all(&other)
    .await
    .unwrap();
    assert!(!others.is_empty());
    for id in others {
        // One may have gone by itself, or be another of this pool.
        let _ = sqlx::raw_sql(AssertSqlSafe(format!("kill {id}"))).execute(&other).await;
    }
    for n in 1..3 {
        let delivery = within("the next delivery", async {
            loop {
                match subscription.next().await.expect("the stream goes on") {
                    Ok(delivery) => return delivery,
                    Err(error) => assert_eq!(error.kind(), SubscribeErrorKind::Unavailable, "{error}"),
                }
            }
        })
        .await;
        assert_eq!(delivery.payload(), n.to_string().as_str());
        delivery.ack();
    }
}

#[tokio::test]
async fn no_transaction_is_open_while_a_handler_has_a_message() {
    let database = Database::default();
    let pool = database.pool().await;
    publisher(&pool).publish("t", numbered(0..1)).await.unwrap();
    let mut subscription = subscriber(&pool).subscribe("t").await.unwrap();
    let delivery = next(&mut subscription).await;
    within("every transaction to end", async {
        let open = "select count(*) from information_schema.innodb_trx t
                    join information_schema.processlist p on p.id = t.trx_mysql_thread_id
                    where p.db = database() and p.command = 'Sleep'";
        while sqlx::query_scalar::<_, i64>(open).fetch_one(&pool).await.unwrap() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // So a publisher waits for no handler, and neither does who cleans up.
    publisher(&pool).publish("t", numbered(1..2)).await.unwrap();
    execute(
        &pool,
        "set lock_wait_timeout = 5; lock tables watermill_t write, watermill_offsets_t write; unlock tables",
    )
    .await;
    delivery.ack_confirmed().await.unwrap();
}
