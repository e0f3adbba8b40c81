//! The tables: made by us, by Go, by others.

use super::*;

#[tokio::test]
async fn tables_that_go_made_are_read_and_written_without_migration() {
    let database = Database::default();
    let pool = database.pool().await;
    create_go_tables(&pool, "t", "json").await;
    for (uuid, metadata) in [("a", r#"{"k":"v"}"#), ("b", "null"), ("c", "{}")] {
        sqlx::query(
            "insert into watermill_t (uuid, payload, metadata, transaction_id)
             values ($1, '{\"n\": 1}', $2::json, pg_current_xact_id())",
        )
        .bind(uuid)
        .bind(metadata)
        .execute(&pool)
        .await
        .unwrap();
    }
    // Go has processed the first row for the group without a name.
    execute(
        &pool,
        "insert into watermill_offsets_t
         select '', \"offset\", transaction_id from watermill_t where uuid = 'a'",
    )
    .await;

    let group = SqlSubscriberConfig::default().group("rust");
    let mut subscription = subscriber_with(&pool, group).subscribe("t").await.unwrap();
    let a = next(&mut subscription).await;
    assert_eq!((a.id().as_str(), a.payload().as_ref()), ("a", &br#"{"n": 1}"#[..]));
    assert_eq!(a.metadata().get("k"), Some("v"));
    let age = a.info().published_at().unwrap().elapsed().unwrap_or_default();
    assert!(age < Duration::from_secs(600), "{age:?}");
    drop(a);
    drop(subscription);

    let mut resumed = subscriber(&pool).subscribe("t").await.unwrap();
    let b = next(&mut resumed).await;
    assert_eq!(b.id(), "b");
    assert!(b.metadata().is_empty());
    b.ack_confirmed().await.unwrap();
    resumed.close().await.unwrap();
    // It is where a Go reader goes on.
    let (transaction, offset): (String, i64) =
        sqlx::query_as("select transaction_id::text, \"offset\" from watermill_t where uuid = 'b'")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(position(&pool, "t", "").await, (transaction, offset));

    let out = Message::with_id("d", "{}").with_metadata("a", "b");
    publisher(&pool).publish("t", vec![out]).await.unwrap();
    let metadata: String = sqlx::query_scalar(
        "select metadata::text from watermill_t where uuid = 'd' and transaction_id > '0'::xid8",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(metadata, r#"{"a":"b"}"#);
    let mut resumed = subscriber(&pool).subscribe("t").await.unwrap();
    assert_eq!(next(&mut resumed).await.id(), "c");
}

#[tokio::test]
async fn payload_columns_of_any_kind_are_read() {
    let database = Database::default();
    let pool = database.pool().await;
    for (topic, column, value, expected) in [
        ("j", "json", "'{\"a\" : 1}'", &b"{\"a\" : 1}"[..]),
        ("jb", "jsonb", "'{\"a\":1}'", b"{\"a\": 1}"),
        ("b", "bytea", "'\\x00ff'", b"\0\xff"),
        ("x", "text", "'text'", b"text"),
        ("n", "json", "null", b""),
    ] {
        create_go_tables(&pool, topic, column).await;
        execute(
            &pool,
            &format!(
                "insert into watermill_{topic} (uuid, payload, transaction_id)
                 values ('1', {value}, pg_current_xact_id())"
            ),
        )
        .await;
        let mut subscription = subscriber(&pool).subscribe(topic).await.unwrap();
        assert_eq!(next(&mut subscription).await.payload().as_ref(), expected, "{column}");
    }
}

#[tokio::test]
async fn a_table_made_here_has_every_column_that_go_names() {
    let database = Database::default();
    let pool = database.pool().await;
    subscriber(&pool).initialize("t").await.unwrap();
    // The statements of Go's adapters, less their values.
    execute(
        &pool,
        r#"insert into "watermill_t" (uuid, payload, metadata, transaction_id)
               values ('1', '{}', '{}', pg_current_xact_id());
           insert into "watermill_offsets_t" (consumer_group, offset_acked, last_processed_transaction_id)
               values ('go', 0, '0');
           select "offset", transaction_id, uuid, payload, metadata from "watermill_t"
               where transaction_id < pg_snapshot_xmin(pg_current_snapshot())
               order by transaction_id, "offset" limit 100"#,
    )
    .await;
}

#[tokio::test]
async fn many_may_initialise_an_empty_database_at_once() {
    // P37: of two Go processes that do, one dies.
    let database = Database::default();
    let pools = [database.pool().await, database.pool().await, database.pool().await];
    let tasks = (0..24).map(|n| {
        let pool = pools[n % pools.len()].clone();
        tokio::spawn(async move {
            match n % 4 {
                0 => subscriber(&pool).initialize("t").await.unwrap(),
                1 => publisher(&pool).initialize("t").await.unwrap(),
                2 => publisher(&pool).publish("t", numbered(n..n + 1)).await.unwrap(),
                _ => {
                    let mut transaction = pool.begin().await.unwrap();
                    let publisher = SqlPublisher::in_transaction(&mut transaction);
                    publisher.publish("t", numbered(n..n + 1)).await.unwrap();
                    drop(publisher);
                    transaction.commit().await.unwrap();
                }
            }
        })
    });
    for task in futures::future::join_all(tasks).await {
        task.unwrap();
    }
    assert_eq!(count(&pools[0], "t").await, 12);
}

#[tokio::test]
async fn a_table_that_is_not_ours_is_refused_by_name() {
    let database = Database::default();
    let pool = database.pool().await;
    execute(&pool, "create table watermill_t (id integer)").await;
    let error = publisher(&pool).publish("t", numbered(0..1)).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Topic);
    assert!(error.to_string().contains("watermill_t") && error.to_string().contains("uuid"), "{error}");
    let error = subscriber(&pool).subscribe("t").await.unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Topic);
}

#[tokio::test]
async fn an_account_without_the_right_to_create_works_with_tables_that_exist() {
    let database = Database::default();
    let pool = database.pool().await;
    let role = watermill_testkit::unique("poor");
    subscriber(&pool).initialize("t").await.unwrap();
    execute(
        &pool,
        &format!(
            "create role {role} login;
             revoke create on schema public from public;
             grant select, insert on watermill_t to {role};
             grant usage, select on all sequences in schema public to {role};
             grant select, insert, update on watermill_offsets_t, _watermill_leases to {role}"
        ),
    )
    .await;
    let poor = PgPool::connect_with(database.options.clone().username(&role)).await.unwrap();
    publisher(&poor).publish("t", numbered(0..1)).await.unwrap();
    let mut subscription = subscriber(&poor).subscribe("t").await.unwrap();
    next(&mut subscription).await.ack_confirmed().await.unwrap();
    let error = publisher(&poor).publish("missing", numbered(0..1)).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Refused);
    subscription.close().await.unwrap();
    poor.close().await;
    execute(&pool, &format!("drop owned by {role}; drop role {role}")).await;
}

/// Two teams with a schema each, whose topics have the same name, beside one of that name that has a dot.
#[tokio::test]
async fn a_topic_may_name_the_schema_of_its_tables() {
    use watermill_core::fenced::{FencedPublisher as _, Outgoing};
    use watermill_sql::{
        Layout, SqlFencedPublisher, SqlQueueSubscriber, SqlQueueSubscriberConfig, SqlRetention,
        SqlRetentionConfig, SqlStatus,
    };

    let database = Database::default();
    let pool = database.pool().await;
    execute(&pool, "create schema shipping").await;
    publisher(&pool).publish("billing.orders", vec![Message::new("0")]).await.unwrap();
    let publishing = SqlPublisherConfig::default().schema_qualified(true);
    let logs = SqlPublisher::new(pool.clone(), publishing.clone()).unwrap();
    let queues = SqlPublisher::new(pool.clone(), publishing.clone().layout(Layout::Queue)).unwrap();
    let reading = SqlSubscriberConfig::default().schema_qualified(true).dead_letter_topic("shipping.dead");
    for (n, topic) in ["billing.orders", "[shipping].orders", "orders"].into_iter().enumerate() {
        let mut subscription = subscriber_with(&pool, reading.clone()).subscribe(topic).await.unwrap();
        logs.publish(topic, numbered(n..n + 1)).await.unwrap();
        let mut transaction = pool.begin().await.unwrap();
        let inside = SqlPublisher::in_transaction(&mut transaction).config(publishing.clone());
        inside.publish(topic, vec![Message::new("7")]).await.unwrap();
        drop(inside);
        transaction.commit().await.unwrap();
        assert_eq!(payload(&mut subscription).await, n.to_string());
        next(&mut subscription).await.reject("no");
        subscription.close().await.unwrap();
    }
    for table in [
        r#""watermill_billing.orders""#,
        "billing.watermill_orders",
        "shipping.watermill_orders",
        "public.watermill_orders",
    ] {
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {table}")))
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(rows, if table.contains("billing.orders") { 1 } else { 2 }, "{table}");
    }
    let dead: i64 =
        sqlx::query_scalar("select count(*) from shipping.watermill_dead").fetch_one(&pool).await.unwrap();
    assert_eq!(dead, 3);
    let leases: Vec<String> =
        sqlx::query_scalar("select topic from _watermill_leases order by 1").fetch_all(&pool).await.unwrap();
    assert_eq!(leases, ["[billing].orders", "[shipping].orders", "orders"]);

    queues.publish("billing.jobs", numbered(0..1)).await.unwrap();
    let working = SqlQueueSubscriberConfig::default().schema_qualified(true);
    let mut jobs = SqlQueueSubscriber::new(pool.clone(), working.clone())
        .unwrap()
        .subscribe("billing.jobs")
        .await
        .unwrap();
    next(&mut jobs).await.ack_confirmed().await.unwrap();
    let keyed = numbered(0..3).into_iter().map(|message| message.with_key("k"));
    queues.publish("billing.keyed", keyed.collect()).await.unwrap();
    let workers = SqlQueueSubscriber::new(pool.clone(), working.ordered_by_key(true)).unwrap();
    let mut keyed = workers.subscribe("billing.keyed").await.unwrap();
    for n in 0..3 {
        assert_eq!(payload(&mut keyed).await, n.to_string());
    }
    let fenced = SqlFencedPublisher::new(pool.clone(), publishing).unwrap();
    let mut term = fenced.begin("relay").await.unwrap();
    let batch = Outgoing { topic: "billing.relayed".to_owned(), messages: numbered(0..2) };
    term.commit(vec![batch], "one".into()).await.unwrap();
    let relayed: i64 =
        sqlx::query_scalar("select count(*) from billing.watermill_relayed").fetch_one(&pool).await.unwrap();
    assert_eq!(relayed, 2);

    let status = SqlStatus::new(pool.clone()).schema_qualified(true);
    let group = &status.log("billing.orders").await.unwrap().groups[0];
    assert_eq!((group.position, group.backlog.rows), (2, 0));
    let queue = status.queue("billing.jobs", Some("shipping.dead")).await.unwrap();
    assert_eq!((queue.due.rows, queue.dead.unwrap().rows), (0, 3));
    assert_eq!(status.peek("shipping.dead", 0, 10).await.unwrap().len(), 3);
    let retention = SqlRetentionConfig::default().schema_qualified(true).keep_for(Duration::ZERO);
    let retention = SqlRetention::new(pool.clone(), retention).unwrap();
    assert_eq!(retention.run_once("billing.orders").await.unwrap().deleted, 2);
    assert_eq!(retention.run_once("[shipping].orders").await.unwrap().deleted, 2);
    assert_eq!(count(&pool, "billing.orders").await, 1, "the table whose name has a dot is another one");
}
