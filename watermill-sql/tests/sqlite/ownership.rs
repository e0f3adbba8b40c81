//! Who reads: leases, hand-overs, take-overs.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_owner_is_fenced_off_after_a_take_over() {
    // P38 and P39: a paused relay holds its peer up, and publishes the rest of its batch when it wakes.
    let database = Database::new();
    let pool = database.pool().await;
    publisher(&pool).publish("t", numbered(0..3)).await.unwrap();
    let config = SqlSubscriberConfig::default().lease(Duration::from_millis(300));

    let process = process();
    let (mut zombie, outstanding) = awake(process, async {
        let pool = database.pool_of(1).await;
        let mut zombie = subscriber_with(&pool, config.clone()).subscribe("t").await.unwrap();
        let outstanding = next(&mut zombie).await;
        (zombie, outstanding)
    });
    let watch = outstanding.cancellation();

    let mut successor = subscriber_with(&pool, config).subscribe("t").await.unwrap();
    let again = next(&mut successor).await;
    assert_eq!(again.payload(), "0");
    assert!(again.info().redelivered());
    again.ack_confirmed().await.unwrap();
    assert_eq!(position(&pool, "t", GO_DEFAULT_GROUP).await, 1);

    // It hands out nothing any more, though it has fetched more.
    assert!(!watch.is_cancelled());
    zombie.set_window(Window::ordered(NonZeroUsize::new(10).unwrap()));
    assert!(zombie.next().now_or_never().is_none());
    let refused = awake(process, outstanding.ack_confirmed()).unwrap_err();
    assert_eq!(refused.kind(), SettleErrorKind::Lost);
    awake(process, watch.cancelled());
    assert!(matches!(zombie.status().health, Health::Degraded { .. }));
    assert_eq!(payload(&mut successor).await, "1");
    successor.close().await.unwrap();
    assert_eq!(position(&pool, "t", GO_DEFAULT_GROUP).await, 2);
    // And it stands by: what is left is its own again.
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
async fn a_graceful_stop_hands_over_at_once() {
    let database = Database::new();
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
    let fresh = next(&mut second).await;
    assert_eq!((fresh.payload().as_ref(), fresh.info().redelivered()), (&b"2"[..], false));
}

#[tokio::test]
async fn a_subscription_that_is_dropped_gives_its_lease_back() {
    let database = Database::new();
    let pool = database.pool().await;
    publisher(&pool).publish("t", numbered(0..3)).await.unwrap();
    let config = SqlSubscriberConfig::default().lease(Duration::from_secs(3600));
    let subscriber = subscriber_with(&pool, config);
    let mut first = subscriber.subscribe("t").await.unwrap();
    next(&mut first).await.ack_confirmed().await.unwrap();
    let outstanding = next(&mut first).await;
    drop(first);
    let mut second = subscriber.subscribe("t").await.unwrap();
    assert_eq!(payload(&mut second).await, "1");
    drop(outstanding);
    assert_eq!(payload(&mut second).await, "2");
}

#[test]
fn a_process_that_dies_loses_no_message() {
    let database = Database::new();
    let config = SqlSubscriberConfig::default().lease(Duration::from_millis(300));
    let run = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let first = run();
    let delivered = first.block_on(async {
        let pool = database.pool().await;
        publisher(&pool).publish("t", numbered(0..50)).await.unwrap();
        let mut subscription = subscriber_with(&pool, config.clone()).subscribe("t").await.unwrap();
        let mut delivered = Vec::new();
        for _ in 0..20 {
            let delivery = next(&mut subscription).await;
            delivered.push(String::from_utf8(delivery.payload().to_vec()).unwrap());
            if delivered.len() == 10 {
                delivery.ack_confirmed().await.unwrap();
            } else {
                delivery.ack();
            }
        }
        // Neither closed nor dropped: the runtime stops under it.
        std::mem::forget(subscription);
        delivered
    });
    first.shutdown_background();
    run().block_on(async {
        let pool = database.pool().await;
        let recorded = position(&pool, "t", GO_DEFAULT_GROUP).await;
        assert!(recorded >= 10);
        let mut subscription = subscriber_with(&pool, config).subscribe("t").await.unwrap();
        let resumed = next(&mut subscription).await;
        assert!(resumed.info().redelivered());
        let at: usize = std::str::from_utf8(resumed.payload()).unwrap().parse().unwrap();
        assert!(at >= 10 && at <= delivered.len(), "{at}");
        resumed.ack();
        for n in at + 1..50 {
            assert_eq!(payload(&mut subscription).await, n.to_string());
        }
    });
}

#[tokio::test]
async fn a_go_reader_at_work_is_waited_for_and_one_that_takes_over_is_noticed() {
    let database = Database::new();
    let pool = database.pool().await;
    publisher(&pool).publish("t", numbered(0..2)).await.unwrap();
    let subscriber = subscriber(&pool);
    subscriber.initialize("t").await.unwrap();
    let lock = "update watermill_offsets_t set locked_until = unixepoch() + 60";
    sqlx::query(lock).execute(&pool).await.unwrap();
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    let waiting = async {
        loop {
            if let Health::Degraded { reason } = subscription.status().health
                && reason.contains("Go")
            {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap();
    sqlx::query("update watermill_offsets_t set locked_until = 0").execute(&pool).await.unwrap();
    let delivery = next(&mut subscription).await;
    sqlx::query(lock).execute(&pool).await.unwrap();
    assert_eq!(delivery.ack_confirmed().await.unwrap_err().kind(), SettleErrorKind::Lost);
    assert_eq!(position(&pool, "t", GO_DEFAULT_GROUP).await, 0);
}

#[tokio::test]
async fn what_was_acked_out_of_order_does_not_come_again_and_attempts_are_kept() {
    let database = Database::new();
    let pool = database.pool().await;
    publisher(&pool).publish("t", numbered(0..4)).await.unwrap();
    let subscriber = subscriber(&pool);
    let mut first = subscriber.subscribe("t").await.unwrap();
    first.set_window(Window::unordered(NonZeroUsize::new(3).unwrap()));
    let (zero, one, two) = (next(&mut first).await, next(&mut first).await, next(&mut first).await);
    zero.nack_after(Duration::from_secs(3600));
    two.ack_confirmed().await.unwrap();
    one.ack();
    first.close().await.unwrap();
    assert_eq!(position(&pool, "t", GO_DEFAULT_GROUP).await, 0);

    let mut second = subscriber.subscribe("t").await.unwrap();
    let zero = next(&mut second).await;
    assert_eq!((zero.payload().as_ref(), zero.info().attempt()), (&b"0"[..], 2));
    zero.ack();
    assert_eq!(payload(&mut second).await, "3");
    second.close().await.unwrap();
    assert_eq!(position(&pool, "t", GO_DEFAULT_GROUP).await, 4);
}

#[tokio::test]
async fn a_position_that_is_set_back_by_hand_is_read_again_at_once() {
    let database = Database::new();
    let pool = database.pool().await;
    let publisher = publisher(&pool);
    publisher.publish("t", numbered(0..2)).await.unwrap();
    let mut subscription = subscriber(&pool).subscribe("t").await.unwrap();
    next(&mut subscription).await.ack_confirmed().await.unwrap();
    sqlx::query("update watermill_offsets_t set offset_acked = 0").execute(&pool).await.unwrap();
    let refused = next(&mut subscription).await.ack_confirmed().await.unwrap_err();
    assert_eq!(refused.kind(), SettleErrorKind::Lost);
    assert_eq!(payload(&mut subscription).await, "0");
    assert_eq!(payload(&mut subscription).await, "1");
}

#[tokio::test]
async fn closing_the_subscriber_closes_its_subscriptions() {
    let database = Database::new();
    let pool = database.pool().await;
    publisher(&pool).publish("t", numbered(0..3)).await.unwrap();
    let subscriber = subscriber(&pool);
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    assert_eq!(payload(&mut subscription).await, "0");
    subscriber.close().await.unwrap();
    subscriber.close().await.unwrap();
    assert!(subscription.next().await.is_none());
    assert_eq!(subscription.status().health, Health::Ended);
    assert_eq!(position(&pool, "t", GO_DEFAULT_GROUP).await, 1);
    assert_eq!(subscriber.subscribe("t").await.unwrap_err().kind(), SubscribeErrorKind::Closed);
}

#[tokio::test]
async fn a_position_that_is_set_back_is_noticed_by_an_idle_reader_too() {
    let database = Database::new();
    let pool = database.pool().await;
    publisher(&pool).publish("t", numbered(0..1)).await.unwrap();
    let config = SqlSubscriberConfig::default().lease(Duration::from_millis(300));
    let mut subscription = subscriber_with(&pool, config).subscribe("t").await.unwrap();
    next(&mut subscription).await.ack_confirmed().await.unwrap();
    sqlx::query("update watermill_offsets_t set offset_acked = 0").execute(&pool).await.unwrap();
    assert_eq!(payload(&mut subscription).await, "0");
}
