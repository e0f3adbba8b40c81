//! Rows that commit late, who holds a reader back, and what is refused because it cannot be decided.

use super::*;

async fn refusal(pool: &PgPool, config: SqlSubscriberConfig) -> String {
    let error = subscriber_with(pool, config).subscribe("t").await.unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Refused, "{error}");
    error.to_string()
}

#[tokio::test]
async fn a_row_that_commits_late_comes_before_later_ones_and_foreign_transactions_hold_nothing_back() {
    let database = Database::default();
    let pool = database.pool().await;
    subscriber(&pool).initialize("t").await.unwrap();
    publisher(&pool).initialize("other").await.unwrap();
    let mut foreign = pool.begin().await.unwrap();
    SqlPublisher::in_transaction(&mut foreign).publish("other", numbered(0..1)).await.unwrap();

    let mut late = pool.begin().await.unwrap();
    SqlPublisher::in_transaction(&mut late).publish("t", numbered(0..1)).await.unwrap();
    publisher(&pool).publish("t", numbered(1..2)).await.unwrap();
    let subscriber = subscriber_with(&pool, by(CommitOrder::LockHolders));
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *late).await.unwrap();
    let held = within("the gauge", async {
        loop {
            assert!(subscription.next().now_or_never().is_none());
            let said =
                matches!(subscription.status().health, Health::Degraded { reason } if reason.contains("backend"));
            if let [held] = &subscriber.held_back()[..]
                && said
            {
                return held.clone();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!((held.topic.as_str(), held.holder), ("t", format!("backend {pid}")));
    assert!(held.age >= Duration::from_secs(1), "{:?}", held.age);
    late.commit().await.unwrap();
    assert_eq!(payload(&mut subscription).await, "0");
    assert_eq!(payload(&mut subscription).await, "1");
    within("the gauge", async {
        while !subscriber.held_back().is_empty() || subscription.status().health != Health::Healthy {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    foreign.rollback().await.unwrap();
}

#[tokio::test]
async fn of_several_who_hold_a_reader_back_the_oldest_is_named_by_its_number() {
    let database = Database::default();
    let pool = database.pool().await;
    let subscriber = subscriber(&pool);
    subscriber.initialize("t").await.unwrap();
    let mut writers = Vec::new();
    for n in 0..3 {
        let mut writer = pool.begin().await.unwrap();
        SqlPublisher::in_transaction(&mut writer).publish("t", numbered(n..n + 1)).await.unwrap();
        let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *writer).await.unwrap();
        writers.push((i64::from(pid), writer));
    }
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    for (pid, writer) in writers {
        within("the gauge", async {
            while !subscriber.held_back().iter().any(|held| held.id == Some(pid) && held.age > held.waited) {
                assert!(subscription.next().now_or_never().is_none());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        writer.commit().await.unwrap();
    }
    for n in 0..3 {
        assert_eq!(payload(&mut subscription).await, n.to_string());
    }
}

#[tokio::test]
async fn by_snapshot_any_open_write_transaction_holds_a_reader_back_and_is_named() {
    let database = Database::default();
    let pool = database.pool().await;
    publisher(&pool).initialize("other").await.unwrap();
    let mut foreign = pool.begin().await.unwrap();
    SqlPublisher::in_transaction(&mut foreign).publish("other", numbered(0..1)).await.unwrap();
    publisher(&pool).publish("t", numbered(0..1)).await.unwrap();
    let subscriber = subscriber_with(&pool, by(CommitOrder::Snapshot));
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    within("the gauge", async {
        while subscriber.held_back().is_empty() {
            assert!(subscription.next().now_or_never().is_none());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    foreign.rollback().await.unwrap();
    assert_eq!(payload(&mut subscription).await, "0");
}

#[tokio::test]
async fn a_prepared_transaction_holds_back_until_it_ends() {
    let database = Database::default();
    let pool = database.pool().await;
    subscriber(&pool).initialize("t").await.unwrap();
    let gid = watermill_testkit::unique("prepared");
    execute(
        &pool,
        &format!(
            "begin; insert into watermill_t (uuid, payload) values ('early', '0'); prepare transaction '{gid}'"
        ),
    )
    .await;
    publisher(&pool).publish("t", numbered(1..2)).await.unwrap();
    let subscriber = subscriber_with(&pool, by(CommitOrder::LockHolders));
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    within("the gauge", async {
        while !subscriber.held_back().iter().any(|held| held.holder.contains(&gid)) {
            assert!(subscription.next().now_or_never().is_none());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    execute(&pool, &format!("commit prepared '{gid}'")).await;
    assert_eq!(payload(&mut subscription).await, "0");
    assert_eq!(payload(&mut subscription).await, "1");
}

#[tokio::test]
async fn a_sequence_that_hands_out_offsets_ahead_is_refused() {
    let database = Database::default();
    let pool = database.pool().await;
    publisher(&pool).initialize("t").await.unwrap();
    execute(&pool, "alter sequence watermill_t_offset_seq cache 20").await;
    assert!(refusal(&pool, by(CommitOrder::Auto)).await.contains("cache 1"));
    // The other rule does not mind.
    publisher(&pool).publish("t", numbered(0..1)).await.unwrap();
    let mut subscription = subscriber_with(&pool, by(CommitOrder::Snapshot)).subscribe("t").await.unwrap();
    assert_eq!(payload(&mut subscription).await, "0");
}

#[tokio::test]
async fn a_table_without_the_index_is_read_by_snapshot_and_not_by_lock_holders() {
    let database = Database::default();
    let pool = database.pool().await;
    create_go_tables(&pool, "t", "json").await;
    publisher(&pool).publish("t", numbered(0..1)).await.unwrap();
    assert!(refusal(&pool, by(CommitOrder::LockHolders)).await.contains("index"));
    let mut subscription = subscriber(&pool).subscribe("t").await.unwrap();
    next(&mut subscription).await.ack_confirmed().await.unwrap();
    assert_ne!(position(&pool, "t", "").await.0, "0");
}

#[tokio::test]
async fn a_group_cannot_change_its_order_half_way() {
    let database = Database::default();
    let pool = database.pool().await;
    publisher(&pool).publish("t", numbered(0..2)).await.unwrap();
    for (order, other) in
        [(CommitOrder::LockHolders, CommitOrder::Snapshot), (CommitOrder::Snapshot, CommitOrder::LockHolders)]
    {
        let group = format!("{order:?}");
        let mut subscription = subscriber_with(&pool, by(order).group(&group)).subscribe("t").await.unwrap();
        next(&mut subscription).await.ack_confirmed().await.unwrap();
        subscription.close().await.unwrap();
        assert!(refusal(&pool, by(other).group(&group)).await.contains("new group"));
        // Left to itself, it goes on by the order that it has.
        let auto = by(CommitOrder::Auto).group(&group);
        let mut subscription = subscriber_with(&pool, auto).subscribe("t").await.unwrap();
        assert_eq!(payload(&mut subscription).await, "1");
    }
}

#[tokio::test]
async fn a_restored_dump_from_a_cluster_that_was_further_is_refused_and_the_remedy_works() {
    let database = Database::default();
    let pool = database.pool().await;
    create_go_tables(&pool, "t", "json").await;
    execute(
        &pool,
        "insert into watermill_t (uuid, payload, transaction_id) values
             ('a', '0', '900000000001'), ('b', '1', '900000000002');
         insert into watermill_offsets_t values ('', 1, '900000000001')",
    )
    .await;
    let why = refusal(&pool, by(CommitOrder::Auto)).await;
    let remedy = why.split_once("run: ").unwrap().1;
    assert!(remedy.starts_with("begin; ") && remedy.ends_with("commit"), "{why}");
    execute(&pool, remedy).await;
    publisher(&pool).publish("t", numbered(2..3)).await.unwrap();
    let mut subscription = subscriber(&pool).subscribe("t").await.unwrap();
    assert_eq!(payload(&mut subscription).await, "1");
    assert_eq!(payload(&mut subscription).await, "2");
}

#[tokio::test]
async fn a_position_ahead_of_the_sequence_is_refused() {
    let database = Database::default();
    let pool = database.pool().await;
    subscriber(&pool).initialize("t").await.unwrap();
    execute(&pool, "update watermill_offsets_t set offset_acked = 100").await;
    assert!(refusal(&pool, by(CommitOrder::Auto)).await.contains("setval"));
}

#[tokio::test]
async fn a_group_that_starts_at_the_latest_row_gets_what_comes_after() {
    let database = Database::default();
    let pool = database.pool().await;
    publisher(&pool).publish("t", numbered(0..2)).await.unwrap();
    for order in [CommitOrder::LockHolders, CommitOrder::Snapshot] {
        // By snapshot, what transactions of other tests still hold back comes after the latest row, too.
        within("the end of what was open", async {
            let seen =
                "select bool_and(transaction_id < pg_snapshot_xmin(pg_current_snapshot())) from watermill_t";
            while !sqlx::query_scalar::<_, bool>(seen).fetch_one(&pool).await.unwrap() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        let config = by(order).group(format!("{order:?}")).start(StartPosition::Latest);
        let mut subscription = subscriber_with(&pool, config).subscribe("t").await.unwrap();
        publisher(&pool).publish("t", vec![Message::new(format!("\"{order:?}\""))]).await.unwrap();
        assert_eq!(payload(&mut subscription).await, format!("\"{order:?}\""));
    }
}

#[tokio::test]
async fn transactions_are_ordered_as_numbers_whatever_their_number_of_digits() {
    let database = Database::default();
    let pool = database.pool().await;
    create_go_tables(&pool, "t", "json").await;
    execute(
        &pool,
        "insert into watermill_t (uuid, payload, transaction_id) values
             ('a', '0', '9'), ('b', '1', '10'), ('c', '2', '99'), ('d', '3', '100')",
    )
    .await;
    let subscriber = subscriber_with(&pool, by(CommitOrder::Snapshot).batch_size(1));
    subscriber.initialize("t").await.unwrap();
    // Somebody has died with the lease, and may have delivered every one of them.
    execute(
        &pool,
        "insert into _watermill_leases (topic, consumer_group, owner, token, expires_at_ms)
         values ('t', '', 'dead', 1, 0)",
    )
    .await;
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    for n in 0..4 {
        let delivery = next(&mut subscription).await;
        assert_eq!(delivery.payload(), n.to_string().as_str());
        assert!(delivery.info().redelivered(), "{n}");
        delivery.ack();
    }
}
