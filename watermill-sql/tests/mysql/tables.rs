//! The tables: made by us, by Go, by others.

use super::*;

/// As Go's documentation has them.
async fn create_go_tables(pool: &MySqlPool, topic: &str, payload: &str) {
    execute(
        pool,
        &format!(
            "create table `watermill_{topic}` (
                 `offset` bigint auto_increment, `uuid` varchar(36) not null,
                 `created_at` timestamp not null default current_timestamp,
                 `payload` {payload} default null, `metadata` json default null, primary key (`offset`));
             create table `watermill_offsets_{topic}` (
                 consumer_group varchar(255) not null, offset_acked bigint, offset_consumed bigint not null,
                 primary key (consumer_group))"
        ),
    )
    .await;
}

#[tokio::test]
async fn tables_that_go_made_are_read_and_written_without_migration() {
    let database = Database::default();
    let pool = database.pool().await;
    create_go_tables(&pool, "t", "json").await;
    execute(
        &pool,
        r#"insert into watermill_t (uuid, payload, metadata) values
               ('a', '{"n": 1}', '{"k":"v"}'), ('b', '{"n": 1}', 'null'), ('c', '{"n": 1}', '{}');
           insert into watermill_offsets_t values ('', 1, 1)"#,
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

    // The group without a name goes on where Go stopped.
    let mut resumed = subscriber(&pool).subscribe("t").await.unwrap();
    let b = next(&mut resumed).await;
    assert_eq!(b.id(), "b");
    assert!(b.metadata().is_empty());
    b.ack_confirmed().await.unwrap();
    resumed.close().await.unwrap();
    assert_eq!(position(&pool, "t", "").await, (2, 2));

    let out = Message::with_id("d", "{}").with_metadata("a", "b");
    publisher(&pool).publish("t", vec![out]).await.unwrap();
    let metadata: String =
        sqlx::query_scalar("select cast(metadata as char) from watermill_t where uuid = 'd'")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(metadata.replace(' ', ""), r#"{"a":"b"}"#);
}

#[tokio::test]
async fn groups_that_the_table_of_go_does_not_tell_apart_are_refused_and_the_remedy_works() {
    let database = Database::default();
    let pool = database.pool().await;
    create_go_tables(&pool, "t", "json").await;
    execute(
        &pool,
        "alter table watermill_offsets_t modify consumer_group varchar(255) character set utf8mb4
         collate utf8mb4_general_ci not null",
    )
    .await;
    publisher(&pool).publish("t", numbered(0..2)).await.unwrap();
    let group = |name: &str| SqlSubscriberConfig::default().group(name);
    let mut lower = subscriber_with(&pool, group("billing")).subscribe("t").await.unwrap();
    next(&mut lower).await.ack_confirmed().await.unwrap();
    let error = subscriber_with(&pool, group("Billing")).subscribe("t").await.unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Refused, "{error}");
    let text = error.to_string();
    let (_, remedy) = text.split_once("lose messages: ").unwrap_or_else(|| panic!("{text}"));
    execute(&pool, remedy).await;
    let mut upper = subscriber_with(&pool, group("Billing")).subscribe("t").await.unwrap();
    assert_eq!(payload(&mut upper).await, "0");
    assert_eq!(payload(&mut lower).await, "1");
    let error = subscriber_with(&pool, group("billing ")).subscribe("t").await.unwrap_err();
    assert!(error.to_string().contains("end with spaces"), "{error}");
}

#[tokio::test]
async fn payload_columns_of_any_kind_are_read() {
    let database = Database::default();
    let pool = database.pool().await;
    for (topic, column, value, expected) in [
        ("j", "json", "'{\"a\":1}'", &b"{\"a\":1}"[..]),
        ("b", "longblob", "x'00ff'", b"\0\xff"),
        ("v", "varbinary(9)", "x'00ff'", b"\0\xff"),
        ("x", "text", "'text'", b"text"),
        ("n", "json", "null", b""),
    ] {
        create_go_tables(&pool, topic, column).await;
        execute(&pool, &format!("insert into watermill_{topic} (uuid, payload) values ('1', {value})")).await;
        let mut subscription = subscriber(&pool).subscribe(topic).await.unwrap();
        assert_eq!(next(&mut subscription).await.payload().as_ref(), expected, "{column}");
    }
}

#[tokio::test]
async fn a_table_made_here_has_every_column_that_go_names() {
    let database = Database::default();
    let pool = database.pool().await;
    subscriber(&pool).initialize("t").await.unwrap();
    execute(
        &pool,
        "insert into `watermill_t` (`uuid`, `payload`, `metadata`) values ('1', '{}', '{}');
         insert into `watermill_offsets_t` (consumer_group, offset_acked, offset_consumed) values ('go', 0, 0);
         select `offset`, `uuid`, `payload`, `metadata` from `watermill_t` order by `offset` limit 100",
    )
    .await;
}

#[tokio::test]
async fn many_may_initialise_an_empty_database_at_once() {
    let database = Database::default();
    let pools = [database.pool().await, database.pool().await, database.pool().await];
    let tasks = (0..24).map(|n| {
        let pool = pools[n % pools.len()].clone();
        tokio::spawn(async move {
            match n % 3 {
                0 => subscriber(&pool).initialize("t").await.unwrap(),
                1 => publisher(&pool).initialize("t").await.unwrap(),
                _ => publisher(&pool).publish("t", numbered(n..n + 1)).await.unwrap(),
            }
        })
    });
    for task in futures::future::join_all(tasks).await {
        task.unwrap();
    }
    assert_eq!(count(&pools[0], "t").await, 8);
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
