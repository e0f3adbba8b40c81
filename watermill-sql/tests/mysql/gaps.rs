//! Missing offsets, who holds a reader back, and what is refused because it cannot be decided.

use super::*;

#[tokio::test]
async fn a_row_that_commits_late_comes_before_later_ones_and_its_writer_is_named() {
    let mut log = LogLines::of_this_thread("watermill_sql");
    let database = Database::default();
    let pool = database.pool().await;
    let subscriber = subscriber(&pool);
    subscriber.initialize("t").await.unwrap();
    let mut late = pool.begin().await.unwrap();
    SqlPublisher::in_transaction(&mut late).publish("t", numbered(0..1)).await.unwrap();
    publisher(&pool).publish("t", numbered(1..2)).await.unwrap();
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    let id: i64 =
        sqlx::query_scalar("select cast(connection_id() as signed)").fetch_one(&mut *late).await.unwrap();
    within("the gauge", async {
        let name = format!("connection {id}");
        // Other tests write to this server, too.
        while !subscriber.held_back().iter().any(|held| {
            held.topic == "t"
                && held.age >= Duration::from_secs(1)
                && (held.holder.starts_with(&name) || held.holder.contains("another"))
        }) {
            assert!(subscription.next().now_or_never().is_none());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let line = within("a warning", log.next_about(Level::WARN, "held back")).await;
    assert!(line.text.contains("connection") && line.text.contains("age_ms="), "{line:?}");
    late.commit().await.unwrap();
    assert_eq!(payload(&mut subscription).await, "0");
    assert_eq!(payload(&mut subscription).await, "1");
}

#[tokio::test]
async fn what_was_rolled_back_or_deleted_is_passed() {
    let database = Database::default();
    let pool = database.pool().await;
    let publisher = publisher(&pool);
    publisher.publish("t", numbered(0..10)).await.unwrap();
    execute(&pool, "delete from watermill_t where `offset` in (1, 2, 5)").await;
    let mut rolled_back = pool.begin().await.unwrap();
    SqlPublisher::in_transaction(&mut rolled_back).publish("t", numbered(90..95)).await.unwrap();
    rolled_back.rollback().await.unwrap();
    publisher.publish("t", numbered(10..12)).await.unwrap();
    let mut subscription = subscriber(&pool).subscribe("t").await.unwrap();
    for n in [2, 3, 5, 6, 7, 8, 9, 10, 11] {
        assert_eq!(payload(&mut subscription).await, n.to_string());
    }
}

#[tokio::test]
async fn what_a_killed_writer_had_drawn_is_passed() {
    let database = Database::default();
    let pool = database.pool().await;
    publisher(&pool).publish("t", numbered(0..1)).await.unwrap();
    let mut victim = pool.begin().await.unwrap();
    SqlPublisher::in_transaction(&mut victim).publish("t", numbered(90..91)).await.unwrap();
    let id: u64 =
        sqlx::query_scalar("select cast(connection_id() as unsigned)").fetch_one(&mut *victim).await.unwrap();
    publisher(&pool).publish("t", numbered(1..2)).await.unwrap();
    execute(&pool, &format!("kill {id}")).await;
    let error = SqlPublisher::in_transaction(&mut victim).publish("t", numbered(91..92)).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Unavailable);
    assert!(error.is_retryable());
    drop(victim);
    let mut subscription = subscriber(&pool).subscribe("t").await.unwrap();
    assert_eq!(payload(&mut subscription).await, "0");
    assert_eq!(payload(&mut subscription).await, "1");
}

#[tokio::test]
async fn an_account_that_cannot_see_others_waits_the_grace_period_and_needs_no_right_to_create() {
    let database = Database::default();
    let pool = database.pool().await;
    let user = watermill_testkit::unique("poor");
    subscriber(&pool).initialize("t").await.unwrap();
    let name: String = sqlx::query_scalar("select database()").fetch_one(&pool).await.unwrap();
    execute(
        &pool,
        &format!("create user {user}; grant select, insert, update, delete on `{name}`.* to {user}"),
    )
    .await;
    let poor = MySqlPool::connect_with(database.options.clone().username(&user)).await.unwrap();
    let mut late = pool.begin().await.unwrap();
    SqlPublisher::in_transaction(&mut late).publish("t", numbered(0..1)).await.unwrap();
    publisher(&poor).publish("t", numbered(1..2)).await.unwrap();
    let config = SqlSubscriberConfig::default().gap_grace(Duration::from_millis(30));
    let mut log = LogLines::of_this_thread("watermill_sql");
    let mut subscription = subscriber_with(&poor, config).subscribe("t").await.unwrap();
    let line = within("a warning", log.next_about(Level::WARN, "grant process")).await;
    assert!(line.text.contains("gap_grace"), "{line:?}");
    // Longer than the grace period: an open transaction is seen by its lock, not by the clock.
    let early = tokio::time::timeout(Duration::from_millis(200), subscription.next()).await;
    assert!(early.is_err());
    late.commit().await.unwrap();
    assert_eq!(payload(&mut subscription).await, "0");
    assert_eq!(payload(&mut subscription).await, "1");
    execute(&pool, "delete from watermill_t; alter table watermill_t auto_increment = 20").await;
    publisher(&poor).publish("t", numbered(2..3)).await.unwrap();
    assert_eq!(payload(&mut subscription).await, "2");
    let error = publisher(&poor).publish("missing", numbered(0..1)).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Refused);
    subscription.close().await.unwrap();
    poor.close().await;
    execute(&pool, &format!("drop user {user}")).await;
}

/// It has drawn its offsets, perhaps, though the list of processes calls it `Connect`.
#[tokio::test]
async fn a_statement_of_the_event_scheduler_is_waited_for_like_any_other() {
    let database = Database::default();
    let pool = database.pool().await;
    let name = watermill_testkit::unique("event");
    let mut holder = pool.acquire().await.unwrap();
    let lock = format!("do get_lock('{name}', 60)");
    sqlx::raw_sql(AssertSqlSafe(lock.clone())).execute(&mut *holder).await.unwrap();
    let publisher = publisher(&pool);
    publisher.initialize("t").await.unwrap();
    execute(&pool, "set global event_scheduler = on").await;
    // It has the table open, which is what counts where the server tells that.
    let writes = format!(
        "insert into watermill_t (payload, metadata) select '2', '{{}}' from (select get_lock('{name}', 60) as held) w"
    );
    execute(&pool, &format!("create event waiting on schedule at current_timestamp do {writes}")).await;
    within("the event", async {
        let runs = "select count(*) from information_schema.processlist where db = database() and command = 'Connect'";
        while sqlx::query_scalar::<_, i64>(runs).fetch_one(&pool).await.unwrap() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let mut rolled_back = pool.begin().await.unwrap();
    SqlPublisher::in_transaction(&mut rolled_back).publish("t", numbered(0..1)).await.unwrap();
    rolled_back.rollback().await.unwrap();
    publisher.publish("t", numbered(1..2)).await.unwrap();
    let subscriber = subscriber(&pool);
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    within("the gauge", async {
        while !subscriber.held_back().iter().any(|held| held.waited >= Duration::from_secs(1)) {
            assert!(subscription.next().now_or_never().is_none());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    sqlx::raw_sql(AssertSqlSafe(format!("do release_lock('{name}')"))).execute(&mut *holder).await.unwrap();
    assert_eq!(payload(&mut subscription).await, "1");
    assert_eq!(payload(&mut subscription).await, "2");
    execute(&pool, "drop event if exists waiting").await;
}

#[tokio::test]
async fn a_table_without_transactions_is_refused() {
    let database = Database::default();
    let pool = database.pool().await;
    subscriber(&pool).initialize("t").await.unwrap();
    execute(&pool, "alter table watermill_t engine = MyISAM").await;
    let error = subscriber(&pool).subscribe("t").await.unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Refused);
    assert!(error.to_string().contains("InnoDB"), "{error}");
}

#[tokio::test]
async fn a_group_that_starts_at_the_latest_row_gets_what_comes_after() {
    let database = Database::default();
    let pool = database.pool().await;
    publisher(&pool).publish("t", numbered(0..2)).await.unwrap();
    let config = SqlSubscriberConfig::default().start(StartPosition::Latest);
    let mut subscription = subscriber_with(&pool, config).subscribe("t").await.unwrap();
    publisher(&pool).publish("t", numbered(2..3)).await.unwrap();
    assert_eq!(payload(&mut subscription).await, "2");
}

#[tokio::test]
async fn a_position_ahead_of_the_table_is_refused_and_the_remedy_works() {
    let database = Database::default();
    let pool = database.pool().await;
    publisher(&pool).publish("t", numbered(0..3)).await.unwrap();
    let mut subscription = subscriber(&pool).subscribe("t").await.unwrap();
    for _ in 0..3 {
        next(&mut subscription).await.ack_confirmed().await.unwrap();
    }
    subscription.close().await.unwrap();
    // Rows that are deleted leave the table its counter; this does not.
    execute(&pool, "delete from watermill_t").await;
    subscriber(&pool).subscribe("t").await.unwrap().close().await.unwrap();
    execute(&pool, "truncate table watermill_t").await;
    let error = subscriber(&pool).subscribe("t").await.unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Refused, "{error}");
    let text = error.to_string();
    let (_, remedy) = text.split_once("delivered: ").unwrap();
    execute(&pool, remedy.split_once(',').unwrap().0).await;
    publisher(&pool).publish("t", numbered(3..4)).await.unwrap();
    let mut subscription = subscriber(&pool).subscribe("t").await.unwrap();
    assert_eq!(payload(&mut subscription).await, "3");
}
