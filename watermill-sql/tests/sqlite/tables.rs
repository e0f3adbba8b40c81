//! The tables: made by us, by Go, by others, and written by plain SQL.

use super::*;

#[tokio::test]
async fn tables_that_go_made_are_read_and_written_without_migration() {
    let database = Database::new();
    let pool = database.pool().await;
    for statement in [
        r#"create table "watermill_t" ("offset" integer primary key autoincrement, uuid text not null,
           created_at text not null, payload blob not null, metadata json not null)"#,
        r#"create table "watermill_offsets_t" (consumer_group text not null, offset_acked integer not null,
           locked_until integer not null, primary key (consumer_group))"#,
        r#"insert into "watermill_t" (uuid, created_at, payload, metadata) values
           ('a', '2024-05-01T10:00:00+02:00', x'00ff', '{"k":"v"}'),
           ('b', '2024-05-01T10:00:01Z', 'text', 'null')"#,
        r#"insert into "watermill_offsets_t" values ('default', 1, 0)"#,
    ] {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    let group = SqlSubscriberConfig::default().group("rust");
    let mut subscription = subscriber_with(&pool, group).subscribe("t").await.unwrap();
    let a = next(&mut subscription).await;
    assert_eq!((a.id().as_str(), &a.payload()[..]), ("a", &[0, 255][..]));
    assert_eq!(a.metadata().get("k"), Some("v"));
    let published_at = a.info().published_at().unwrap();
    assert_eq!(published_at.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(), 1_714_550_400);
    a.ack();

    // The group that Go reads for when none is named goes on where Go stopped, with no name here either.
    let group = SqlSubscriberConfig::default();
    let mut resumed = subscriber_with(&pool, group).subscribe("t").await.unwrap();
    let b = next(&mut resumed).await;
    assert_eq!((b.id().as_str(), b.payload().as_ref()), ("b", &b"text"[..]));
    b.ack_confirmed().await.unwrap();
    let locked: i64 = sqlx::query_scalar(
        "select locked_until - unixepoch() from watermill_offsets_t where consumer_group = 'default'",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert!(locked > 0, "a Go reader stays out while this one reads");
    resumed.close().await.unwrap();
    let (acked, locked_until): (i64, i64) = sqlx::query_as(
        "select offset_acked, locked_until from watermill_offsets_t where consumer_group = 'default'",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!((acked, locked_until), (2, 0));

    publisher(&pool).publish("t", vec![Message::with_id("c", "out").with_metadata("a", "b")]).await.unwrap();
    let (created_at, metadata): (String, String) =
        sqlx::query_as("select created_at, metadata from watermill_t where uuid = 'c'")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert!(created_at.ends_with('Z') && created_at.contains('T'), "{created_at}");
    assert_eq!(metadata, r#"{"a":"b"}"#);
}

#[tokio::test]
async fn what_plain_sql_inserts_is_delivered() {
    let database = Database::new();
    let pool = database.pool().await;
    let publisher = publisher(&pool);
    publisher.initialize("t").await.unwrap();
    let mut subscription = subscriber(&pool).subscribe("t").await.unwrap();
    sqlx::query("insert into watermill_t (uuid, payload) values ('1', 'hello')")
        .execute(&pool)
        .await
        .unwrap();
    let delivery = next(&mut subscription).await;
    assert_eq!((delivery.id().as_str(), delivery.payload().as_ref()), ("1", &b"hello"[..]));
    assert!(delivery.metadata().is_empty());
    assert!(delivery.info().published_at().is_some());
}

#[tokio::test]
async fn many_may_initialise_an_empty_database_at_once() {
    // P37: of two Go processes that do, one dies.
    let database = Database::new();
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
    let database = Database::new();
    let pool = database.pool().await;
    sqlx::query("create table watermill_t (id integer)").execute(&pool).await.unwrap();
    let error = publisher(&pool).publish("t", numbered(0..1)).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Topic);
    assert!(error.to_string().contains("watermill_t") && error.to_string().contains("uuid"), "{error}");
    let error = subscriber(&pool).subscribe("t").await.unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Topic);
}

#[tokio::test]
async fn with_initialisation_off_nothing_is_created() {
    let database = Database::new();
    let pool = database.pool().await;
    let publisher =
        SqlPublisher::new(pool.clone(), SqlPublisherConfig::default().initialize_schema(false)).unwrap();
    assert_eq!(publisher.publish("t", numbered(0..1)).await.unwrap_err().kind(), PublishErrorKind::Topic);
    let reading = subscriber_with(&pool, SqlSubscriberConfig::default().initialize_schema(false));
    assert_eq!(reading.subscribe("t").await.unwrap_err().kind(), SubscribeErrorKind::Topic);
    subscriber(&pool).initialize("t").await.unwrap();
    publisher.publish("t", numbered(0..1)).await.unwrap();
    let mut subscription = reading.subscribe("t").await.unwrap();
    assert_eq!(payload(&mut subscription).await, "0");
}

#[tokio::test]
async fn a_position_ahead_of_the_table_is_refused() {
    let database = Database::new();
    let pool = database.pool().await;
    publisher(&pool).publish("t", numbered(0..3)).await.unwrap();
    let mut subscription = subscriber(&pool).subscribe("t").await.unwrap();
    for _ in 0..3 {
        next(&mut subscription).await.ack_confirmed().await.unwrap();
    }
    subscription.close().await.unwrap();
    // Rows that are deleted leave the table its counter; this does not.
    sqlx::query("delete from watermill_t").execute(&pool).await.unwrap();
    subscriber(&pool).subscribe("t").await.unwrap().close().await.unwrap();
    sqlx::query("drop table watermill_t").execute(&pool).await.unwrap();
    let error = subscriber(&pool).subscribe("t").await.unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("at offset 3"), "{error}");
    sqlx::query("update watermill_offsets_t set offset_acked = 0").execute(&pool).await.unwrap();
    publisher(&pool).publish("t", numbered(7..8)).await.unwrap();
    let mut subscription = subscriber(&pool).subscribe("t").await.unwrap();
    assert_eq!(payload(&mut subscription).await, "7");
}
