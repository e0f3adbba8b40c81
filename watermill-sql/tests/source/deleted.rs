//! Rows that an operator deletes while somebody tries in vain to handle them.

use watermill_core::{Message, Publisher};
use watermill_sql::{Layout, SqlPublisher, SqlPublisherConfig};

use super::{
    outbox::{fill, source},
    *,
};

async fn publish<S: Outbox>(pool: &Pool<S::Database>, layout: Layout) {
    let publisher = SqlPublisher::new(pool.clone(), SqlPublisherConfig::default().layout(layout)).unwrap();
    publisher.publish("t", vec![Message::new("0"), Message::new("1")]).await.unwrap();
}

pub(crate) async fn a_row_of_a_log_that_is_deleted_while_it_is_in_hand_is_lost_and_the_rest_goes_on<
    S: Outbox,
>() {
    for way in S::ways() {
        let server = S::default();
        let pool = server.connect().await;
        publish::<S>(&pool, Layout::Log).await;
        let config = way.lease(std::time::Duration::from_millis(300));
        let subscriber = SqlSubscriber::new(pool.clone(), config).unwrap();
        let mut subscription = subscriber.subscribe("t").await.unwrap();
        let held = next(&mut subscription).await;
        let lost = held.cancellation();
        S::execute(&pool, &format!("delete from watermill_t where {} = 1", S::OFFSET)).await;
        within_patience(lost.cancelled()).await;
        assert!(held.info().is_lost());
        assert_eq!(read(&mut subscription, 1).await, ["1"]);
        held.ack();
        assert_eq!(S::number(&pool, "select max(offset_acked) from watermill_offsets_t").await, 2);
    }
}

pub(crate) async fn a_row_of_a_log_that_is_deleted_after_a_nack_holds_up_nothing<S: Outbox>() {
    let server = S::default();
    let pool = server.connect().await;
    publish::<S>(&pool, Layout::Log).await;
    let config = SqlSubscriberConfig::default().lease(std::time::Duration::from_millis(300));
    let subscriber = SqlSubscriber::new(pool.clone(), config).unwrap();
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    next(&mut subscription).await.nack_after(std::time::Duration::from_secs(3600));
    S::execute(&pool, &format!("delete from watermill_t where {} = 1", S::OFFSET)).await;
    assert_eq!(read(&mut subscription, 1).await, ["1"]);
}

pub(crate) async fn a_row_of_a_queue_that_is_deleted_while_it_is_in_hand_is_lost_and_the_rest_goes_on<
    S: Outbox,
>() {
    let server = S::default();
    let pool = server.connect().await;
    publish::<S>(&pool, Layout::Queue).await;
    let config =
        SqlQueueSubscriberConfig::default().visibility_timeout(std::time::Duration::from_millis(900));
    let subscriber = SqlQueueSubscriber::new(pool.clone(), config).unwrap();
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    let held = next(&mut subscription).await;
    assert_eq!(payload(&held), "0");
    let lost = held.cancellation();
    S::execute(&pool, &format!("delete from watermill_t where {} = 1", S::OFFSET)).await;
    within_patience(lost.cancelled()).await;
    assert!(held.is_lost());
    assert_eq!(read(&mut subscription, 1).await, ["1"]);
}

pub(crate) async fn a_row_of_a_source_that_is_deleted_while_it_is_in_hand_is_lost_and_the_rest_goes_on<
    S: Outbox,
>() {
    let server = S::default();
    let pool = server.with_outbox().await;
    fill::<S>(&pool, 0..2).await;
    let as_log: Box<dyn Subscriber> = Box::new(log::<S>(&pool, source().topic("log")));
    let as_queue: Box<dyn Subscriber> = Box::new(queue::<S>(&pool, source().topic("queue")));
    let mut held = Vec::new();
    for (topic, subscriber) in [("log", &as_log), ("queue", &as_queue)] {
        let mut subscription = subscriber.subscribe(topic).await.unwrap();
        let delivery = next(&mut subscription).await;
        assert_eq!(payload(&delivery), "0");
        held.push((subscription, delivery));
    }
    S::execute(&pool, "delete from outbox where seq = 1").await;
    for (mut subscription, delivery) in held {
        within_patience(delivery.cancellation().cancelled()).await;
        assert!(delivery.is_lost());
        assert_eq!(read(&mut subscription, 1).await, ["1"]);
    }
}

async fn within_patience(future: impl Future<Output = ()>) {
    tokio::time::timeout(watermill_testkit::patience(), future).await.expect("it is noticed");
}
