//! What readers get, and in which order.

use super::*;

#[tokio::test]
async fn a_transaction_that_commits_late_is_not_skipped() {
    let database = Database::new();
    let pool = database.pool().await;
    let mut subscription = subscriber(&pool).subscribe("t").await.unwrap();
    let mut writers = Vec::new();
    for writer in 0..8 {
        let pool = pool.clone();
        writers.push(tokio::spawn(async move {
            let mut committed = Vec::new();
            for round in 0..10 {
                let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
                let mine: Vec<_> = (0..3).map(|n| format!("{writer}-{round}-{n}")).collect();
                let publisher = SqlPublisher::in_transaction(&mut transaction);
                for payload in &mine {
                    publisher.publish_one("t", Message::new(payload.clone())).await.unwrap();
                    tokio::task::yield_now().await;
                }
                drop(publisher);
                if round % 3 == 0 {
                    transaction.rollback().await.unwrap();
                } else {
                    transaction.commit().await.unwrap();
                    committed.extend(mine);
                }
            }
            committed
        }));
    }
    let mut committed = Vec::new();
    let mut delivered = Vec::new();
    for writer in writers {
        let done = tokio::spawn(writer);
        committed.extend(done.await.unwrap().unwrap());
    }
    for _ in 0..committed.len() {
        delivered.push(payload(&mut subscription).await);
    }
    let rows =
        sqlx::query(r#"select payload from watermill_t order by "offset""#).fetch_all(&pool).await.unwrap();
    let stored: Vec<_> =
        rows.iter().map(|row| String::from_utf8(row.get::<Vec<u8>, _>(0)).unwrap()).collect();
    assert_eq!(delivered, stored);
    committed.sort();
    delivered.sort();
    assert_eq!(delivered, committed);
    assert!(subscription.next().now_or_never().is_none());
}

#[tokio::test]
async fn every_group_gets_every_message() {
    let database = Database::new();
    let pool = database.pool().await;
    publisher(&pool).publish("t", numbered(0..3)).await.unwrap();
    let base = subscriber(&pool);
    for group in ["billing", "shipping", ""] {
        let mut subscription = base.in_group(group).unwrap().subscribe("t").await.unwrap();
        for n in 0..3 {
            assert_eq!(payload(&mut subscription).await, n.to_string());
        }
        subscription.close().await.unwrap();
        assert_eq!(position(&pool, "t", group).await, 3);
    }
}

#[tokio::test]
async fn a_group_that_starts_latest_gets_what_comes_after_it_was_made() {
    let database = Database::new();
    let pool = database.pool().await;
    let publisher = publisher(&pool);
    publisher.publish("t", numbered(0..3)).await.unwrap();
    let late = subscriber_with(&pool, SqlSubscriberConfig::default().start(StartPosition::Latest));
    late.initialize("t").await.unwrap();
    publisher.publish("t", numbered(3..4)).await.unwrap();
    let mut subscription = late.subscribe("t").await.unwrap();
    assert_eq!(payload(&mut subscription).await, "3");
}

const MENDED: &str = "update watermill_t set metadata = '{}' where uuid = 'broken'";
const BROKEN: &str = r#"insert into watermill_t (uuid, payload, metadata) values ('broken', 'x', '{"a":1}')"#;

#[tokio::test]
async fn an_unreadable_row_is_reported_and_held_until_it_is_mended() {
    let database = Database::new();
    let pool = database.pool().await;
    let publisher = publisher(&pool);
    publisher.publish("t", numbered(0..1)).await.unwrap();
    sqlx::query(BROKEN).execute(&pool).await.unwrap();
    publisher.publish("t", numbered(1..2)).await.unwrap();
    let config = SqlSubscriberConfig::default().retry(Backoff::constant(Duration::from_millis(20)));
    let mut subscription = subscriber_with(&pool, config).subscribe("t").await.unwrap();
    // What comes before the row is delivered, what comes after it waits, and every look is reported.
    let (mut seen, mut errors) = (Vec::new(), 0);
    while seen.len() < 3 {
        match subscription.next().await.unwrap() {
            Ok(delivery) => {
                seen.push(String::from_utf8(delivery.payload().to_vec()).unwrap());
                delivery.ack();
            }
            Err(error) => {
                assert_eq!(error.kind(), SubscribeErrorKind::Undecodable);
                assert!(error.to_string().contains("offset 2"), "{error}");
                errors += 1;
                if errors == 3 {
                    assert_eq!(seen, ["0"]);
                    sqlx::query(MENDED).execute(&pool).await.unwrap();
                }
            }
        }
    }
    assert_eq!(seen, ["0", "x", "1"]);
}

#[tokio::test]
async fn with_a_dead_letter_topic_unreadable_and_rejected_rows_are_moved_there() {
    let database = Database::new();
    let pool = database.pool().await;
    let publisher = publisher(&pool);
    publisher.initialize("t").await.unwrap();
    sqlx::query(BROKEN).execute(&pool).await.unwrap();
    publisher
        .publish("t", vec![Message::with_id("no", "payload").with_key("k"), Message::with_id("yes", "")])
        .await
        .unwrap();
    let config = SqlSubscriberConfig::default().dead_letter_topic("dead");
    let dying = subscriber_with(&pool, config);
    assert!(dying.capabilities().dead_letters);
    let mut subscription = dying.subscribe("t").await.unwrap();
    let error = subscription.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Undecodable);
    let rejected = next(&mut subscription).await;
    assert_eq!(rejected.id(), &"no");
    rejected.reject("no such customer");
    let accepted = next(&mut subscription).await;
    assert_eq!(accepted.id(), &"yes");
    accepted.ack_confirmed().await.unwrap();
    assert_eq!(position(&pool, "t", GO_DEFAULT_GROUP).await, 3);

    let mut dead = subscriber(&pool).subscribe("dead").await.unwrap();
    let unreadable = next(&mut dead).await;
    assert_eq!((unreadable.id().as_str(), unreadable.payload().as_ref()), ("broken", &b"x"[..]));
    assert_eq!(unreadable.metadata().get("metadata_poisoned"), Some(r#"{"a":1}"#));
    unreadable.ack();
    let rejected = next(&mut dead).await;
    assert_eq!(rejected.key().map(|key| &key[..]), Some(&b"k"[..]));
    assert_eq!(rejected.metadata().get("reason_poisoned"), Some("no such customer"));
    assert_eq!(rejected.metadata().get("topic_poisoned"), Some("t"));
}

#[tokio::test]
async fn acks_of_a_batch_are_recorded_together() {
    let database = Database::new();
    let pool = database.pool().await;
    publisher(&pool).publish("t", numbered(0..1_000)).await.unwrap();
    sqlx::query("create table updates (n integer)").execute(&pool).await.unwrap();
    let subscriber =
        subscriber_with(&pool, SqlSubscriberConfig::default().ack_interval(Duration::from_secs(4)));
    subscriber.initialize("t").await.unwrap();
    sqlx::query(
        "create trigger counted after update of offset_acked on watermill_offsets_t
         begin insert into updates values (1); end",
    )
    .execute(&pool)
    .await
    .unwrap();
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    for n in 0..1_000 {
        assert_eq!(payload(&mut subscription).await, n.to_string());
    }
    subscription.close().await.unwrap();
    let updates: i64 = sqlx::query_scalar("select count(*) from updates").fetch_one(&pool).await.unwrap();
    assert!(updates <= 11, "{updates}");
}

#[tokio::test]
async fn a_closed_pool_ends_the_stream_with_an_error_and_not_in_silence() {
    let database = Database::new();
    let pool = database.pool().await;
    let subscription = subscriber(&pool).subscribe("t").await.unwrap();
    pool.close().await;
    let items = tokio::time::timeout(Duration::from_secs(20), subscription.collect::<Vec<_>>());
    let items = items.await.expect("the stream ends");
    let errors: Vec<_> = items.into_iter().map(|item| item.unwrap_err().kind()).collect();
    assert_eq!(errors, [SubscribeErrorKind::Closed]);
    let error = publisher(&pool).publish("t", numbered(0..1)).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Closed);
}

#[tokio::test]
async fn publishers_do_not_wait_for_handlers() {
    // P36: Go's reader keeps a transaction open while it waits for the handler, and writers wait for it.
    let database = Database::new();
    let pool = database.pool().await;
    let options = (*pool.connect_options()).clone().busy_timeout(Duration::ZERO);
    let hasty = publisher(&SqlitePoolOptions::new().connect_with(options).await.unwrap());
    hasty.publish("t", numbered(0..1)).await.unwrap();
    // Nothing is due while the handler works: not a renewal, and there is nothing to record.
    let config = SqlSubscriberConfig::default().lease(Duration::from_secs(3600));
    let mut subscription = subscriber_with(&pool, config).subscribe("t").await.unwrap();
    let in_the_handler = next(&mut subscription).await;
    for n in 1..50 {
        hasty.publish("t", numbered(n..n + 1)).await.unwrap();
    }
    in_the_handler.ack();
    for n in 1..50 {
        assert_eq!(payload(&mut subscription).await, n.to_string());
    }
}

#[tokio::test]
async fn an_in_memory_database_of_one_connection_will_do() {
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .min_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect("sqlite::memory:")
        .await
        .unwrap();
    let mut subscription = subscriber(&pool).subscribe("t").await.unwrap();
    publisher(&pool).publish("t", numbered(0..300)).await.unwrap();
    for n in 0..300 {
        assert_eq!(payload(&mut subscription).await, n.to_string());
    }
    subscription.close().await.unwrap();
    assert_eq!(position(&pool, "t", GO_DEFAULT_GROUP).await, 300);
}

#[tokio::test]
async fn the_rows_ahead_of_an_unsettled_one_are_bounded() {
    let database = Database::new();
    let pool = database.pool().await;
    publisher(&pool).publish("t", numbered(0..100)).await.unwrap();
    let config = SqlSubscriberConfig::default().batch_size(5).max_ahead(10);
    let mut subscription = subscriber_with(&pool, config).subscribe("t").await.unwrap();
    subscription.set_window(Window::unordered(NonZeroUsize::new(3).unwrap()));
    let first = next(&mut subscription).await;
    let mut ahead = 0;
    while ahead < 9 {
        next(&mut subscription).await.ack();
        ahead += 1;
    }
    // One more batch may have been on its way when the bound was reached; then the first is waited for.
    while let Ok(delivery) = tokio::time::timeout(Duration::from_millis(300), subscription.next()).await {
        delivery.unwrap().unwrap().ack();
        ahead += 1;
        assert!(ahead < 14, "nothing holds it back");
    }
    first.ack();
    for _ in ahead..99 {
        next(&mut subscription).await.ack();
    }
    subscription.close().await.unwrap();
    assert_eq!(position(&pool, "t", GO_DEFAULT_GROUP).await, 100);
}

#[tokio::test]
async fn what_the_reader_of_dead_letters_rejects_does_not_come_back_to_it() {
    let database = Database::new();
    let pool = database.pool().await;
    publisher(&pool).publish("dead", numbered(0..1)).await.unwrap();
    let config = SqlSubscriberConfig::default().dead_letter_topic("dead");
    let mut subscription = subscriber_with(&pool, config).subscribe("dead").await.unwrap();
    next(&mut subscription).await.reject("no");
    subscription.close().await.unwrap();
    assert_eq!((position(&pool, "dead", GO_DEFAULT_GROUP).await, count(&pool, "dead").await), (1, 1));
}

#[tokio::test]
async fn what_is_published_in_this_process_is_not_polled_for() {
    let database = Database::new();
    let pool = database.pool().await;
    let hour = Duration::from_secs(3600);
    let config = SqlSubscriberConfig::default().poll_interval_max(hour).poll_interval_min(hour);
    let mut subscription = subscriber_with(&pool, config).subscribe("t").await.unwrap();
    for n in 0..3 {
        publisher(&pool).publish("t", numbered(n..n + 1)).await.unwrap();
        assert_eq!(payload(&mut subscription).await, n.to_string());
    }
}

#[tokio::test]
async fn the_status_tells_what_is_unsettled_once_everything_was_read() {
    let database = Database::new();
    let pool = database.pool().await;
    publisher(&pool).publish("t", numbered(0..3)).await.unwrap();
    let subscriber = subscriber(&pool);
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    let first = next(&mut subscription).await;
    let [status] = &subscriber.status()[..] else { panic!("there is one subscription") };
    assert_eq!((status.outstanding, status.lag), (1, Some(3)));
    assert!(status.oldest_unsettled.is_some());
    first.ack_confirmed().await.unwrap();
    assert_eq!(subscription.status().lag, Some(2));
    subscription.close().await.unwrap();
    assert_eq!(subscriber.status(), []);
}
