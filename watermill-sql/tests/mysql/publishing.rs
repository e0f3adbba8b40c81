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
async fn a_connection_publishes_and_a_rollback_publishes_nothing() {
    let database = Database::default();
    let pool = database.pool().await;
    publisher(&pool).initialize("t").await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    SqlPublisher::in_transaction(&mut transaction).publish("t", numbered(0..2)).await.unwrap();
    transaction.rollback().await.unwrap();
    let mut connection = pool.acquire().await.unwrap();
    SqlPublisher::<MySql>::on_connection(&mut connection).publish("t", numbered(7..8)).await.unwrap();
    let mut subscription = subscriber(&pool).subscribe("t").await.unwrap();
    assert_eq!(payload(&mut subscription).await, "7");
}

#[tokio::test]
async fn a_call_that_is_refused_before_it_is_sent_leaves_the_transaction_usable() {
    let database = Database::default();
    let pool = database.pool().await;
    publisher(&pool).initialize("t").await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    let publisher = SqlPublisher::in_transaction(&mut transaction);
    for bad in [Message::with_id("x".repeat(37), "{}"), Message::new("not json"), Message::new("")] {
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
async fn a_table_is_not_created_inside_a_transaction_which_that_would_commit() {
    let database = Database::default();
    let pool = database.pool().await;
    execute(&pool, "create table winners (name varchar(9))").await;
    let mut transaction = pool.begin().await.unwrap();
    sqlx::query("insert into winners values ('ann')").execute(&mut *transaction).await.unwrap();
    let error =
        SqlPublisher::in_transaction(&mut transaction).publish("t", numbered(0..1)).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Topic);
    transaction.rollback().await.unwrap();
    let winners: i64 = sqlx::query_scalar("select count(*) from winners").fetch_one(&pool).await.unwrap();
    assert_eq!(winners, 0);
}

#[tokio::test]
async fn a_call_with_very_many_or_very_large_messages_is_all_or_nothing() {
    let database = Database::default();
    let pool = database.pool().await;
    publisher(&pool).publish("t", numbered(0..2_500)).await.unwrap();
    execute(&pool, "create unique index one on watermill_t (uuid)").await;
    for large in [1, 1024 * 1024] {
        let mut messages = vec![Message::new(format!("\"{}\"", "x".repeat(large))); 2_500 / large.min(250)];
        for message in &mut messages {
            *message = Message::new(message.payload().clone());
        }
        messages.push(Message::with_id(messages[0].id().clone(), "2"));
        let error = publisher(&pool).publish("t", messages).await.unwrap_err();
        assert_eq!(error.kind(), PublishErrorKind::Refused);
        assert_eq!(count(&pool, "t").await, 2_500);
    }
}
