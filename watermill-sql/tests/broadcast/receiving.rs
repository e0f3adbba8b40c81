//! Who receives what, and what is left of them.

use std::time::Duration;

use futures::StreamExt;
use sqlx::Pool;
use tokio::time::timeout;
use watermill_core::{Message, Publisher as _, Subscriber as _, Subscription, error::SubscribeErrorKind};
use watermill_sql::{SqlBroadcast, SqlDatabase, SqlPublisher, SqlPublisherConfig, SqlSubscriberConfig};
use watermill_testkit::patience;

use crate::databases::TestDatabase;

fn broadcast<D: SqlDatabase>(pool: &Pool<D>) -> SqlBroadcast<D> {
    SqlBroadcast::new(pool.clone(), "prices", SqlSubscriberConfig::default()).unwrap()
}

async fn publish<D: SqlDatabase>(pool: &Pool<D>, id: &str) {
    let publisher = SqlPublisher::new(pool.clone(), SqlPublisherConfig::default()).unwrap();
    publisher.publish("changed", vec![Message::with_id(id.to_owned(), "{}")]).await.unwrap();
}

async fn next(subscription: &mut Subscription) -> String {
    let delivery = timeout(patience(), subscription.next()).await.expect("a message").unwrap().unwrap();
    let id = delivery.id().to_string();
    delivery.ack();
    id
}

async fn groups<S: TestDatabase>(pool: &Pool<S::Database>) -> (i64, i64) {
    let positions = S::number(pool, "select count(*) from watermill_offsets_changed").await;
    (positions, S::number(pool, "select count(*) from _watermill_leases").await)
}

pub(crate) async fn every_process_receives_what_is_published_in_its_life<S: TestDatabase>() {
    let server = S::default();
    let pool = server.connect().await;
    publish(&pool, "before").await;
    let processes = [broadcast(&pool), broadcast(&pool)];
    let mut subscriptions = Vec::new();
    for process in &processes {
        subscriptions.push(process.subscribe("changed").await.unwrap());
    }
    for id in ["1", "2"] {
        publish(&pool, id).await;
    }
    for subscription in &mut subscriptions {
        assert_eq!([next(subscription).await, next(subscription).await], ["1", "2"]);
    }
    for process in &processes {
        process.close().await.unwrap();
    }
    assert_eq!(groups::<S>(&pool).await, (0, 0));
}

pub(crate) async fn a_group_ends_with_its_subscription<S: TestDatabase>() {
    let server = S::default();
    let pool = server.connect().await;
    let process = broadcast(&pool);
    process.initialize("changed").await.unwrap();
    assert_eq!(S::number(&pool, "select count(*) from watermill_offsets_changed").await, 0);
    let mut subscription = process.subscribe("changed").await.unwrap();
    publish(&pool, "1").await;
    assert_eq!(next(&mut subscription).await, "1");
    assert_eq!(groups::<S>(&pool).await.0, 1);
    subscription.close().await.unwrap();
    assert_eq!(groups::<S>(&pool).await, (0, 0), "neither position nor lease is left");
}

/// As after a night in which a process was stopped, or had no way to the database, and another one has cleaned up.
pub(crate) async fn who_was_taken_for_ended_says_that_it_may_have_missed_something<S: TestDatabase>() {
    let server = S::default();
    let pool = server.connect().await;
    let config = SqlSubscriberConfig::default().lease(Duration::from_secs(1));
    let process = SqlBroadcast::new(pool.clone(), "prices", config).unwrap();
    let mut subscription = process.subscribe("changed").await.unwrap();
    for table in ["watermill_offsets_changed", "_watermill_leases"] {
        S::execute(&pool, &format!("delete from {table}")).await;
    }
    let error = timeout(patience(), subscription.next()).await.expect("a word").unwrap().unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Missed, "{error}");
    publish(&pool, "1").await;
    assert_eq!(next(&mut subscription).await, "1", "it goes on");
    subscription.close().await.unwrap();
    assert_eq!(groups::<S>(&pool).await, (0, 0));
}

pub(crate) async fn what_an_ended_process_has_left_is_removed_by_the_next<S: TestDatabase>() {
    let server = S::default();
    let pool = server.connect().await;
    // A lease that is over soon, of a process that never says goodbye.
    let config = SqlSubscriberConfig::default().lease(Duration::from_secs(1));
    let ended = SqlBroadcast::new(pool.clone(), "prices", config).unwrap();
    let mut subscription = ended.subscribe("changed").await.unwrap();
    publish(&pool, "1").await;
    assert_eq!(next(&mut subscription).await, "1");
    drop(subscription);
    drop(ended);
    assert_eq!(groups::<S>(&pool).await.0, 1);

    let careful = broadcast(&pool);
    careful.subscribe("changed").await.unwrap().close().await.unwrap();
    assert_eq!(groups::<S>(&pool).await.0, 1, "it may only be slow");

    let strict = broadcast(&pool).leftovers_after(Duration::from_millis(1));
    let removed = async {
        loop {
            strict.subscribe("changed").await.unwrap().close().await.unwrap();
            if groups::<S>(&pool).await.0 == 0 {
                return;
            }
        }
    };
    timeout(patience(), removed).await.expect("it is removed once its lease is over");
}
