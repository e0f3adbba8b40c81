//! The tables, Go's among them.

use super::*;
use crate::server::insert;

pub(crate) async fn the_tables_of_go_are_worked_on_as_they_are<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    S::execute(&pool, S::GO_QUEUE).await;
    // Go's insert names these columns.
    S::execute(&pool, &insert("go", "1", r#"{"from":"go"}"#)).await;
    let mut subscription = worker::<S>(&pool).subscribe("go").await.unwrap();
    let delivery = next(&mut subscription).await;
    assert_eq!((payload(&delivery), delivery.metadata().get("from")), ("1", Some("go")));
    delivery.nack_after(Duration::from_millis(50));
    let delivery = next(&mut subscription).await;
    assert_eq!(delivery.info().attempt(), 2);
    delivery.ack();

    let delayed = Message::new("2").delay_for(Duration::from_millis(300));
    publisher::<S>(&pool).publish("go", vec![delayed, Message::new("3")]).await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    SqlPublisher::in_transaction(&mut transaction)
        .config(SqlPublisherConfig::default().layout(Layout::Queue))
        .publish("go", vec![Message::new("4").delay_for(Duration::from_millis(500))])
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    for expected in ["3", "2", "4"] {
        let delivery = next(&mut subscription).await;
        assert_eq!(payload(&delivery), expected);
        delivery.ack();
    }
    subscription.close().await.unwrap();
    assert_eq!(S::number(&pool, "select count(*) from watermill_go").await, 0);
}

pub(crate) async fn logs_and_queues_are_told_apart<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    let log = SqlPublisher::new(pool.clone(), SqlPublisherConfig::default()).unwrap();
    log.publish("log", numbered(0..1)).await.unwrap();
    publisher::<S>(&pool).publish("queue", numbered(0..1)).await.unwrap();

    let error = publisher::<S>(&pool).publish("log", numbered(1..2)).await.unwrap_err();
    assert!(error.kind() == PublishErrorKind::Topic && error.to_string().contains("is a log"), "{error}");
    let error = worker::<S>(&pool).subscribe("log").await.unwrap_err();
    assert!(error.kind() == SubscribeErrorKind::Topic && error.to_string().contains("is a log"), "{error}");
    let reader = SqlSubscriber::new(pool.clone(), SqlSubscriberConfig::default()).unwrap();
    let error = reader.subscribe("queue").await.unwrap_err();
    assert!(error.kind() == SubscribeErrorKind::Topic && error.to_string().contains("is a queue"), "{error}");
    assert_eq!(S::number(&pool, "select count(*) from watermill_log").await, 1);
}

pub(crate) async fn a_queue_has_no_groups<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    let error = worker::<S>(&pool).in_group("g").err().expect("it is refused");
    assert_eq!(error.kind(), SubscribeErrorKind::Unsupported);
}

pub(crate) async fn a_queue_that_go_made_and_nobody_may_alter_is_refused_with_the_remedy<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    S::execute(&pool, S::GO_QUEUE).await;
    let config = SqlQueueSubscriberConfig::default().initialize_schema(false);
    let error = worker_with::<S>(&pool, config).subscribe("go").await.unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Refused);
    assert!(error.to_string().contains("initialize_schema"), "{error}");
}

pub(crate) async fn many_that_begin_at_once_adopt_a_queue_once<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    S::execute(&pool, S::GO_QUEUE).await;
    let worker = worker::<S>(&pool);
    let begun = futures::future::join_all((0..4).map(|_| worker.initialize("go"))).await;
    begun.into_iter().for_each(|result| result.unwrap());
    S::execute(&pool, &insert("go", "1", "{}")).await;
    let mut subscription = worker.subscribe("go").await.unwrap();
    assert_eq!(payload(&next(&mut subscription).await), "1");
}
