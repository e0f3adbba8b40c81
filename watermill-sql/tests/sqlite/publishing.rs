//! Publishing over a pool and inside transactions.

use super::*;

#[tokio::test]
async fn what_is_published_in_a_transaction_comes_with_its_commit_and_in_order() {
    let database = Database::new();
    let pool = database.pool().await;
    let mut subscription = subscriber(&pool).subscribe("t").await.unwrap();

    let mut transaction = pool.begin().await.unwrap();
    {
        let publisher = SqlPublisher::in_transaction(&mut transaction);
        let publisher: &dyn Publisher = &publisher;
        publisher.publish("t", numbered(0..2)).await.unwrap();
        publisher.publish("t", numbered(2..3)).await.unwrap();
    }
    assert!(subscription.next().now_or_never().is_none());
    transaction.commit().await.unwrap();
    for n in 0..3 {
        assert_eq!(payload(&mut subscription).await, n.to_string());
    }
    subscription.close().await.unwrap();
    assert_eq!(position(&pool, "t", GO_DEFAULT_GROUP).await, 3);
}

#[tokio::test]
async fn a_rollback_publishes_nothing_and_takes_the_new_table_with_it() {
    let database = Database::new();
    let pool = database.pool().await;
    let mut transaction = pool.begin().await.unwrap();
    SqlPublisher::in_transaction(&mut transaction).publish("t", numbered(0..2)).await.unwrap();
    transaction.rollback().await.unwrap();
    let tables: i64 = sqlx::query_scalar("select count(*) from sqlite_schema where name = 'watermill_t'")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(tables, 0);
    publisher(&pool).publish("t", numbered(7..8)).await.unwrap();
    let mut subscription = subscriber(&pool).subscribe("t").await.unwrap();
    assert_eq!(payload(&mut subscription).await, "7");
}

#[tokio::test]
async fn the_callers_rows_and_the_messages_are_one() {
    let database = Database::new();
    let pool = database.pool().await;
    sqlx::query("create table winners (name text)").execute(&pool).await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    sqlx::query("insert into winners values ('ann')").execute(&mut *transaction).await.unwrap();
    // A call that fails leaves the transaction usable, and nothing of itself in it.
    let publisher = SqlPublisher::in_transaction(&mut transaction);
    let bad = vec![Message::new("good"), Message::with_id("x".repeat(37), "bad")];
    publisher.publish("t", bad).await.unwrap_err();
    publisher.publish("t", numbered(0..1)).await.unwrap();
    drop(publisher);
    transaction.commit().await.unwrap();
    assert_eq!(count(&pool, "t").await, 1);
    let winners: i64 = sqlx::query_scalar("select count(*) from winners").fetch_one(&pool).await.unwrap();
    assert_eq!(winners, 1);
}

#[tokio::test]
async fn a_call_with_very_many_messages_is_all_or_nothing() {
    let database = Database::new();
    let pool = database.pool().await;
    publisher(&pool).publish("t", numbered(0..2_500)).await.unwrap();
    assert_eq!(count(&pool, "t").await, 2_500);
    // The last of these meets a constraint, in the third statement of the call.
    sqlx::query("create unique index one on watermill_t (uuid)").execute(&pool).await.unwrap();
    let mut messages = numbered(0..2_500);
    messages.push(Message::with_id(messages[0].id().clone(), "twice"));
    let error = publisher(&pool).publish("t", messages.clone()).await.unwrap_err();
    assert_eq!((error.kind(), error.not_accepted()), (PublishErrorKind::Refused, &NotAccepted::All));
    assert_eq!(count(&pool, "t").await, 2_500);
    // Inside a transaction too, which stays usable.
    let mut transaction = pool.begin().await.unwrap();
    SqlPublisher::in_transaction(&mut transaction).publish("t", messages).await.unwrap_err();
    SqlPublisher::in_transaction(&mut transaction).publish("t", numbered(0..1)).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(count(&pool, "t").await, 2_501);
}

#[tokio::test]
async fn what_cannot_be_stored_is_refused_before_anything_is_sent() {
    let database = Database::new();
    let pool = database.pool().await;
    let publisher = publisher(&pool);
    let error = publisher
        .publish("t", vec![Message::new(""), Message::with_id("x".repeat(37), "")])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Message);
    assert!(!error.is_retryable());
    let error = publisher.publish("no spaces", numbered(0..1)).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Topic);
    assert_eq!(subscriber(&pool).subscribe("no spaces").await.unwrap_err().kind(), SubscribeErrorKind::Topic);
    let tables: i64 =
        sqlx::query_scalar("select count(*) from sqlite_schema").fetch_one(&pool).await.unwrap();
    assert_eq!(tables, 0);
}

#[tokio::test]
async fn an_empty_call_sends_nothing() {
    // P34: Go sends a statement without rows, which is a syntax error.
    let database = Database::new();
    let pool = database.pool().await;
    publisher(&pool).publish("t", Vec::new()).await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    SqlPublisher::in_transaction(&mut transaction).publish("t", Vec::new()).await.unwrap();
    let tables: i64 =
        sqlx::query_scalar("select count(*) from sqlite_schema").fetch_one(&mut *transaction).await.unwrap();
    assert_eq!(tables, 0);
}

#[tokio::test]
async fn a_database_that_is_locked_is_unavailable_and_says_so() {
    let database = Database::new();
    let pool = database.pool().await;
    publisher(&pool).initialize("t").await.unwrap();
    let options = (*pool.connect_options()).clone().busy_timeout(Duration::from_millis(10));
    let hasty = SqlitePoolOptions::new().connect_with(options).await.unwrap();
    let transaction = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let error = publisher(&hasty).publish("t", numbered(0..1)).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Unavailable);
    assert!(error.is_retryable());
    transaction.rollback().await.unwrap();
    publisher(&hasty).publish("t", numbered(0..1)).await.unwrap();
}

#[tokio::test]
async fn a_transaction_that_cannot_write_any_more_says_to_run_it_again() {
    let database = Database::new();
    let pool = database.pool().await;
    let outside = publisher(&pool);
    outside.publish("t", numbered(0..1)).await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    sqlx::query("select * from watermill_t").fetch_all(&mut *transaction).await.unwrap();
    outside.publish("t", numbered(1..2)).await.unwrap();
    let error =
        SqlPublisher::in_transaction(&mut transaction).publish("t", numbered(2..3)).await.unwrap_err();
    assert!(error.is_retryable());
    assert!(error.to_string().contains("BEGIN IMMEDIATE"), "{error}");
}
