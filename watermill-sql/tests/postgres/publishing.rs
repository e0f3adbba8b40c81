//! Publishing over a pool, a connection, and inside transactions.

use super::*;

#[tokio::test]
async fn what_is_published_in_a_transaction_comes_with_its_commit_and_in_order() {
    let database = Database::default();
    let pool = database.pool().await;
    let mut subscription = subscriber(&pool).subscribe("t").await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    {
        let publisher = SqlPublisher::in_transaction(&mut transaction);
        let publisher: &dyn Publisher = &publisher;
        publisher.publish("t", numbered(0..2)).await.unwrap();
        publisher.publish("t", numbered(2..3)).await.unwrap();
        publisher.publish("t", Vec::new()).await.unwrap();
    }
    assert!(subscription.next().now_or_never().is_none());
    transaction.commit().await.unwrap();
    for n in 0..3 {
        assert_eq!(payload(&mut subscription).await, n.to_string());
    }
}

#[tokio::test]
async fn a_rollback_publishes_nothing_and_takes_the_new_table_with_it() {
    let database = Database::default();
    let pool = database.pool().await;
    let mut transaction = pool.begin().await.unwrap();
    SqlPublisher::in_transaction(&mut transaction).publish("t", numbered(0..2)).await.unwrap();
    transaction.rollback().await.unwrap();
    let table: Option<String> =
        sqlx::query_scalar("select to_regclass('watermill_t')::text").fetch_one(&pool).await.unwrap();
    assert_eq!(table, None);
    let mut connection = pool.acquire().await.unwrap();
    SqlPublisher::<Postgres>::on_connection(&mut connection).publish("t", numbered(7..8)).await.unwrap();
    let mut subscription = subscriber(&pool).subscribe("t").await.unwrap();
    assert_eq!(payload(&mut subscription).await, "7");
}

#[tokio::test]
async fn a_call_that_is_refused_before_it_is_sent_leaves_the_transaction_usable() {
    let database = Database::default();
    let pool = database.pool().await;
    let mut transaction = pool.begin().await.unwrap();
    let publisher = SqlPublisher::in_transaction(&mut transaction);
    for bad in [
        Message::with_id("x".repeat(37), "{}"),
        Message::with_id("nul\0", "{}"),
        Message::new("not json"),
        Message::new(""),
        Message::new(vec![b'"', 0xff, b'"']),
    ] {
        let error = publisher.publish("t", vec![Message::new("1"), bad]).await.unwrap_err();
        assert_eq!((error.kind(), error.not_accepted()), (PublishErrorKind::Message, &NotAccepted::All));
        assert!(!error.is_retryable());
    }
    publisher.publish("t", numbered(0..1)).await.unwrap();
    drop(publisher);
    transaction.commit().await.unwrap();
    assert_eq!(count(&pool, "t").await, 1);
}

#[tokio::test]
async fn a_call_with_very_many_messages_is_all_or_nothing() {
    let database = Database::default();
    let pool = database.pool().await;
    publisher(&pool).publish("t", numbered(0..2_500)).await.unwrap();
    assert_eq!(count(&pool, "t").await, 2_500);
    execute(&pool, "create unique index one on watermill_t (uuid)").await;
    let mut messages = numbered(0..2_500);
    messages.push(Message::with_id(messages[0].id().clone(), "2"));
    let error = publisher(&pool).publish("t", messages.clone()).await.unwrap_err();
    assert_eq!((error.kind(), error.not_accepted()), (PublishErrorKind::Refused, &NotAccepted::All));
    assert_eq!(count(&pool, "t").await, 2_500);
}

#[tokio::test]
async fn a_killed_backend_fails_a_publish_retryably_and_the_next_one_succeeds() {
    let database = Database::default();
    let pool = database.pool().await;
    let publisher = publisher(&pool);
    publisher.publish("t", numbered(0..1)).await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *transaction).await.unwrap();
    sqlx::query("select pg_terminate_backend($1)").bind(pid).execute(&pool).await.unwrap();
    let error =
        SqlPublisher::in_transaction(&mut transaction).publish("t", numbered(1..2)).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Unavailable);
    assert!(error.is_retryable());
    drop(transaction);
    publisher.publish("t", numbered(1..2)).await.unwrap();
    assert_eq!(count(&pool, "t").await, 2);
}

/// What the row does not fit into is an index of the application's. That a full queue of notifications has the same code
/// and is no fault of a message is told by the file that it is raised in, which only a server could fill.
#[tokio::test]
async fn a_row_that_is_too_large_for_an_index_is_the_fault_of_its_message() {
    let database = Database::default();
    let pool = database.pool().await;
    publisher(&pool).initialize("t").await.unwrap();
    execute(&pool, "create index on watermill_t ((payload::text))").await;
    let digits: String = (0..20_000).map(|_| fastrand::digit(10)).collect();
    let large = Message::new(format!("\"{digits}\""));
    let error = publisher(&pool).publish("t", vec![large]).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (PublishErrorKind::Message, false), "{error}");
    publisher(&pool).publish("t", numbered(0..1)).await.unwrap();
}
