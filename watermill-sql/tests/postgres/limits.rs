//! Reading by lock holders where it could break, each as it is on a server.

use super::*;

/// Waits until a reader waits for a holder of this name, and has nothing to deliver.
async fn until_held_back(
    subscriber: &SqlSubscriber<Postgres>,
    subscription: &mut Subscription,
    holder: &str,
) {
    within(holder, async {
        while !subscriber.held_back().iter().any(|held| held.holder.contains(holder)) {
            assert!(subscription.next().now_or_never().is_none_or(|next| next.unwrap().is_err()));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Waits until a connection that is not one of these looks at the locks.
async fn until_another_looks(pool: &PgPool, others: &[i32]) -> i32 {
    let looking = "select pid from pg_stat_activity
                   where datname = current_database() and query like $1 and pid <> all ($2)";
    within("a look at the locks", async {
        loop {
            let found: Option<i32> = sqlx::query_scalar(looking)
                .bind("%from pg_locks%")
                .bind(others)
                .fetch_optional(pool)
                .await
                .unwrap();
            if let Some(pid) = found {
                return pid;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

async fn pid(connection: &mut sqlx::PgConnection) -> i32 {
    sqlx::query_scalar("select pg_backend_pid()").fetch_one(connection).await.unwrap()
}

fn by_lock_holders(pool: &PgPool) -> SqlSubscriber<Postgres> {
    subscriber_with(pool, by(CommitOrder::LockHolders))
}

#[tokio::test]
async fn an_offset_of_a_savepoint_that_was_rolled_back_holds_nobody_back() {
    let database = Database::default();
    let pool = database.pool().await;
    let subscriber = by_lock_holders(&pool);
    subscriber.initialize("t").await.unwrap();
    let mut open = pool.begin().await.unwrap();
    for statement in
        ["savepoint undone", "insert into watermill_t (payload) values ('9')", "rollback to savepoint undone"]
    {
        sqlx::raw_sql(statement).execute(&mut *open).await.unwrap();
    }
    publisher(&pool).publish("t", numbered(0..1)).await.unwrap();
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    assert_eq!(payload(&mut subscription).await, "0");
    // What it writes after all comes in its place.
    SqlPublisher::in_transaction(&mut open).publish("t", numbered(1..2)).await.unwrap();
    open.commit().await.unwrap();
    assert_eq!(payload(&mut subscription).await, "1");
}

#[tokio::test]
async fn a_writer_that_has_locked_the_table_against_others_is_waited_for() {
    let database = Database::default();
    let pool = database.pool().await;
    let subscriber = by_lock_holders(&pool);
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    let mut alone = pool.begin().await.unwrap();
    sqlx::raw_sql("lock table watermill_t in exclusive mode").execute(&mut *alone).await.unwrap();
    SqlPublisher::in_transaction(&mut alone).publish("t", numbered(0..1)).await.unwrap();
    let holder = format!("backend {}", pid(&mut alone).await);
    until_held_back(&subscriber, &mut subscription, &holder).await;
    alone.commit().await.unwrap();
    assert_eq!(payload(&mut subscription).await, "0");
}

#[tokio::test]
async fn who_updates_or_deletes_messages_is_waited_for_and_who_reads_them_is_not() {
    let database = Database::default();
    let pool = database.pool().await;
    let subscriber = by_lock_holders(&pool);
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    publisher(&pool).publish("t", numbered(0..1)).await.unwrap();
    assert_eq!(payload(&mut subscription).await, "0");
    let changes = ["update watermill_t set metadata = '{}'", "delete from watermill_t"];
    for (statement, n) in changes.into_iter().zip(1..) {
        let mut changing = pool.begin().await.unwrap();
        sqlx::raw_sql(statement).execute(&mut *changing).await.unwrap();
        publisher(&pool).publish("t", numbered(n..n + 1)).await.unwrap();
        let holder = format!("backend {}", pid(&mut changing).await);
        until_held_back(&subscriber, &mut subscription, &holder).await;
        changing.rollback().await.unwrap();
        assert_eq!(payload(&mut subscription).await, n.to_string());
    }
    let mut reading = pool.begin().await.unwrap();
    sqlx::raw_sql("select * from watermill_t for update").execute(&mut *reading).await.unwrap();
    publisher(&pool).publish("t", numbered(3..4)).await.unwrap();
    assert_eq!(payload(&mut subscription).await, "3");
    reading.rollback().await.unwrap();
}

#[tokio::test]
async fn what_was_seen_over_a_connection_that_is_lost_decides_nothing() {
    let database = Database::default();
    let (pool, writing) = (database.pool().await, database.pool().await);
    by_lock_holders(&pool).initialize("t").await.unwrap();
    let mut late = writing.begin().await.unwrap();
    SqlPublisher::in_transaction(&mut late).publish("t", numbered(0..1)).await.unwrap();
    publisher(&writing).publish("t", numbered(1..2)).await.unwrap();
    let subscriber = by_lock_holders(&pool);
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    let writer = pid(&mut late).await;
    let holder = format!("backend {writer}");
    let mut lost = Vec::new();
    for _ in 0..3 {
        until_held_back(&subscriber, &mut subscription, &holder).await;
        let looking = until_another_looks(&writing, &lost).await;
        execute(&writing, &format!("select pg_terminate_backend({looking})")).await;
        lost.push(looking);
    }
    until_another_looks(&writing, &lost).await;
    late.commit().await.unwrap();
    let mut payloads = Vec::new();
    within("both rows", async {
        while payloads.len() < 2 {
            if let Ok(delivery) = subscription.next().await.unwrap() {
                payloads.push(String::from_utf8(delivery.payload().to_vec()).unwrap());
                delivery.ack();
            }
        }
    })
    .await;
    assert_eq!(payloads, ["0", "1"]);
}

#[tokio::test]
async fn the_writers_of_a_table_that_was_made_anew_under_a_reader_are_seen() {
    let database = Database::default();
    let pool = database.pool().await;
    publisher(&pool).publish("t", numbered(0..1)).await.unwrap();
    let subscriber = by_lock_holders(&pool);
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    next(&mut subscription).await.ack_confirmed().await.unwrap();
    // In one transaction, so that no statement of the reader fails meanwhile; and the offsets go on.
    execute(
        &pool,
        r#"begin;
           drop table watermill_t;
           create table watermill_t (
               "offset" bigserial not null unique, uuid varchar(36) not null,
               created_at timestamp not null default current_timestamp, payload json, metadata json,
               transaction_id xid8 not null, primary key (transaction_id, "offset"));
           select setval('watermill_t_offset_seq', 1);
           commit"#,
    )
    .await;
    let mut late = pool.begin().await.unwrap();
    SqlPublisher::in_transaction(&mut late).publish("t", numbered(1..2)).await.unwrap();
    publisher(&pool).publish("t", numbered(2..3)).await.unwrap();
    let holder = format!("backend {}", pid(&mut late).await);
    until_held_back(&subscriber, &mut subscription, &holder).await;
    late.commit().await.unwrap();
    assert_eq!(payload(&mut subscription).await, "1");
    assert_eq!(payload(&mut subscription).await, "2");
}

#[tokio::test]
async fn offsets_that_begin_anew_under_a_reader_are_refused_and_the_remedy_works() {
    let database = Database::default();
    let pool = database.pool().await;
    publisher(&pool).publish("t", numbered(0..3)).await.unwrap();
    let mut subscription = by_lock_holders(&pool).subscribe("t").await.unwrap();
    for _ in 0..3 {
        next(&mut subscription).await.ack_confirmed().await.unwrap();
    }
    execute(&pool, "truncate watermill_t restart identity").await;
    publisher(&pool).publish("t", numbered(7..8)).await.unwrap();
    let why = within("a refusal", async {
        loop {
            let error = subscription.next().await.expect("the stream goes on").unwrap_err();
            if error.kind() == SubscribeErrorKind::Refused {
                return error.to_string();
            }
        }
    })
    .await;
    assert!(why.contains("setval") && why.contains("offset_acked"), "{why}");
    execute(&pool, "update watermill_offsets_t set offset_acked = 0").await;
    let delivery = within("the first row of the new offsets", async {
        loop {
            if let Ok(delivery) = subscription.next().await.expect("the stream goes on") {
                return delivery;
            }
        }
    })
    .await;
    assert_eq!(delivery.payload(), "7");
}

#[tokio::test]
async fn a_table_that_others_inherit_from_is_not_read_by_lock_holders() {
    let database = Database::default();
    let pool = database.pool().await;
    publisher(&pool).initialize("t").await.unwrap();
    // Its rows are seen in the table above and draw the same offsets; its writers lock this one.
    execute(&pool, "create table child () inherits (watermill_t)").await;
    let error = by_lock_holders(&pool).subscribe("t").await.unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Refused);
    let mut late = pool.begin().await.unwrap();
    sqlx::raw_sql("insert into child (payload) values ('0')").execute(&mut *late).await.unwrap();
    publisher(&pool).publish("t", numbered(1..2)).await.unwrap();
    let subscriber = subscriber(&pool);
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    let holder = format!("backend {}", pid(&mut late).await);
    within("the gauge", async {
        while subscriber.held_back().is_empty() {
            assert!(subscription.next().now_or_never().is_none(), "{holder} is not waited for");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    late.commit().await.unwrap();
    assert_eq!(payload(&mut subscription).await, "0");
    assert_eq!(payload(&mut subscription).await, "1");
}

#[tokio::test]
async fn a_sequence_that_counts_as_with_several_primaries_is_refused() {
    let database = Database::default();
    let pool = database.pool().await;
    publisher(&pool).initialize("t").await.unwrap();
    execute(&pool, "alter sequence watermill_t_offset_seq increment 2").await;
    let error = subscriber(&pool).subscribe("t").await.unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Refused);
    assert!(error.to_string().contains("increment 1"), "{error}");
}

#[tokio::test]
async fn a_partitioned_table_is_refused_with_the_remedy() {
    let database = Database::default();
    let pool = database.pool().await;
    execute(
        &pool,
        r#"create table watermill_t ("offset" bigserial, uuid varchar(36) not null,
               created_at timestamp not null default current_timestamp, payload json, metadata json,
               transaction_id xid8 not null default pg_current_xact_id(), primary key (transaction_id, "offset"))
               partition by range ("offset");
           create table part partition of watermill_t for values from (0) to (1000000)"#,
    )
    .await;
    let error = by_lock_holders(&pool).subscribe("t").await.unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Refused);
    assert!(error.to_string().contains("CommitOrder::Snapshot"), "{error}");
    // By the other rule it can be read, and `Auto` knows that.
    publisher(&pool).publish("t", numbered(0..1)).await.unwrap();
    assert_eq!(payload(&mut subscriber(&pool).subscribe("t").await.unwrap()).await, "0");
}

#[tokio::test]
async fn a_reader_that_is_held_back_says_by_whom_and_for_how_long_by_either_rule() {
    let mut log = LogLines::of_this_thread("watermill_sql");
    for order in [CommitOrder::LockHolders, CommitOrder::Snapshot] {
        let database = Database::default();
        let pool = database.pool().await;
        let subscriber = subscriber_with(&pool, by(order));
        subscriber.initialize("t").await.unwrap();
        let mut late = pool.begin().await.unwrap();
        SqlPublisher::in_transaction(&mut late).publish("t", numbered(0..1)).await.unwrap();
        publisher(&pool).publish("t", numbered(1..2)).await.unwrap();
        let mut subscription = subscriber.subscribe("t").await.unwrap();
        let line = within("a warning", log.next_about(Level::WARN, "held back")).await;
        let holder = format!("backend {}", pid(&mut late).await);
        // By snapshot, whoever writes on this server holds it back, other tests too.
        match order {
            CommitOrder::LockHolders => assert!(line.text.contains(&holder), "{line:?}"),
            _ => assert!(line.text.contains("backend ") || line.text.contains("transaction"), "{line:?}"),
        }
        assert!(line.text.contains("age_ms=") && line.text.contains("topic=\"t\""), "{line:?}");
        late.commit().await.unwrap();
        assert_eq!(payload(&mut subscription).await, "0");
        assert_eq!(payload(&mut subscription).await, "1");
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
        let open = "select count(*) from pg_stat_activity
                    where datname = current_database() and state like 'idle in transaction%'";
        while sqlx::query_scalar::<_, i64>(open).fetch_one(&pool).await.unwrap() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // So a publisher waits for no handler, and neither does who cleans up.
    publisher(&pool).publish("t", numbered(1..2)).await.unwrap();
    execute(
        &pool,
        "set lock_timeout = '5s'; lock table watermill_t, watermill_offsets_t in access exclusive mode",
    )
    .await;
    delivery.ack_confirmed().await.unwrap();
}
