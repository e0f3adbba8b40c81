//! What becomes of a row.

use super::*;
use crate::server::insert;

pub(crate) async fn an_acked_row_is_deleted<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    publisher::<S>(&pool).publish("t", numbered(0..1)).await.unwrap();
    let mut subscription = worker::<S>(&pool).subscribe("t").await.unwrap();
    next(&mut subscription).await.ack_confirmed().await.unwrap();
    assert_eq!(S::number(&pool, "select count(*) from watermill_t").await, 0);
}

pub(crate) async fn an_acked_row_is_marked_where_that_is_wanted<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    publisher::<S>(&pool).publish("t", numbered(0..2)).await.unwrap();
    let config = SqlQueueSubscriberConfig::default().on_ack(OnAck::Mark);
    let mut subscription = worker_with::<S>(&pool, config.clone()).subscribe("t").await.unwrap();
    next(&mut subscription).await.ack_confirmed().await.unwrap();
    assert_eq!(S::number(&pool, "select count(*) from watermill_t where acked").await, 1);
    next(&mut subscription).await.ack();
    subscription.close().await.unwrap();
    assert_eq!(S::number(&pool, "select count(*) from watermill_t where acked").await, 2);

    publisher::<S>(&pool).publish("t", numbered(2..3)).await.unwrap();
    let mut subscription = worker_with::<S>(&pool, config).subscribe("t").await.unwrap();
    assert_eq!(payload(&next(&mut subscription).await), "2", "what is marked does not come again");
}

pub(crate) async fn a_rejected_message_is_moved_to_the_dead_letters<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    publisher::<S>(&pool).publish("t", numbered(7..8)).await.unwrap();
    let config = SqlQueueSubscriberConfig::default().dead_letter_topic("dead");
    let mut subscription = worker_with::<S>(&pool, config).subscribe("t").await.unwrap();
    next(&mut subscription).await.reject("not an order");
    let mut dead = worker::<S>(&pool).subscribe("dead").await.unwrap();
    let letter = next(&mut dead).await;
    assert_eq!(payload(&letter), "7");
    for (key, value) in [
        ("reason_poisoned", "not an order"),
        ("topic_poisoned", "t"),
        ("subscriber_poisoned", "sql"),
        ("attempts_poisoned", "1"),
        ("offset_poisoned", "1"),
    ] {
        assert_eq!(letter.metadata().get(key), Some(value), "{key}");
    }
    assert_eq!(S::number(&pool, "select count(*) from watermill_t").await, 0);
}

pub(crate) async fn a_row_that_cannot_be_read_comes_ever_less_often_and_holds_nothing_up<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    worker::<S>(&pool).initialize("t").await.unwrap();
    S::execute(&pool, &insert("t", "0", "[1]")).await;
    publisher::<S>(&pool).publish("t", numbered(1..3)).await.unwrap();
    let config = SqlQueueSubscriberConfig::default().retry(Backoff::constant(Duration::from_millis(20)));
    let mut subscription = worker_with::<S>(&pool, config).subscribe("t").await.unwrap();
    let (mut errors, mut good) = (0, Vec::new());
    within("two looks at it, and the others", async {
        while errors < 2 || good.len() < 2 {
            match subscription.next().await.expect("the stream goes on") {
                Ok(delivery) => {
                    good.push(payload(&delivery).to_owned());
                    delivery.ack();
                }
                Err(error) => {
                    assert_eq!(error.kind(), SubscribeErrorKind::Undecodable, "{error}");
                    errors += 1;
                }
            }
        }
    })
    .await;
    assert_eq!(good, ["1", "2"]);
    until_there_are::<S>(&pool, 1, "select count(*) from watermill_t").await;
}

pub(crate) async fn a_row_that_cannot_be_read_is_moved_to_the_dead_letters<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    worker::<S>(&pool).initialize("t").await.unwrap();
    S::execute(&pool, &insert("t", "5", "[1]")).await;
    let config = SqlQueueSubscriberConfig::default().dead_letter_topic("dead");
    let mut subscription = worker_with::<S>(&pool, config).subscribe("t").await.unwrap();
    let error = within("an error", subscription.next()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Undecodable, "{error}");
    let mut dead = worker::<S>(&pool).subscribe("dead").await.unwrap();
    let letter = next(&mut dead).await;
    assert_eq!((payload(&letter), letter.metadata().get("metadata_poisoned")), ("5", Some("[1]")));
    assert!(subscription.next().now_or_never().is_none());
}

pub(crate) async fn a_row_without_a_payload_is_moved_to_the_dead_letters_and_holds_nothing_up<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    worker::<S>(&pool).initialize("t").await.unwrap();
    S::execute(&pool, "insert into watermill_t (uuid, metadata) values ('a', '{}')").await;
    let config = SqlQueueSubscriberConfig::default().dead_letter_topic("dead");
    let mut subscription = worker_with::<S>(&pool, config).subscribe("t").await.unwrap();
    next(&mut subscription).await.reject("it says nothing");
    let mut dead = worker::<S>(&pool).subscribe("dead").await.unwrap();
    let letter = next(&mut dead).await;
    assert_eq!((payload(&letter), letter.metadata().get("reason_poisoned")), ("", Some("it says nothing")));
}

pub(crate) async fn what_a_transaction_publishes_is_there_after_the_commit<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    worker::<S>(&pool).initialize("t").await.unwrap();
    let config = SqlPublisherConfig::default().layout(Layout::Queue);
    let delayed = Message::new("2").delay_for(Duration::from_millis(1));
    for (payload, commits) in [("1", false), ("2", true)] {
        let mut transaction = pool.begin().await.unwrap();
        let publisher = SqlPublisher::in_transaction(&mut transaction).config(config.clone());
        publisher.publish("t", vec![Message::new(payload), delayed.clone()]).await.unwrap();
        drop(publisher);
        if commits {
            transaction.commit().await.unwrap();
        } else {
            transaction.rollback().await.unwrap();
        }
    }
    let mut subscription = worker::<S>(&pool).subscribe("t").await.unwrap();
    for _ in 0..2 {
        let delivery = next(&mut subscription).await;
        assert_eq!(payload(&delivery), "2");
        delivery.ack();
    }
    assert!(subscription.next().now_or_never().is_none());
}
