//! A database whose clock goes back. That the clock is behind what was written is the same as that what was
//! written is ahead of the clock.

use super::*;

/// A topic whose reader has died, with a lease that has as long to go.
async fn abandoned<S: Server>(pool: &Pool<S::Database>, lease: Duration, remaining_ms: i64) {
    publisher::<S>(pool).publish("t", numbered(0..1)).await.unwrap();
    let config = SqlSubscriberConfig::default().lease(lease);
    let mut subscription = reader::<S>(pool, config).subscribe("t").await.unwrap();
    let delivery = next(&mut subscription).await;
    subscription.close().await.unwrap();
    drop(delivery);
    let now = S::number(pool, "select max(expires_at_ms) from _watermill_leases").await;
    assert_eq!(now, 0, "it was given back");
    S::execute(
        pool,
        &format!(
            "update _watermill_leases set owner = 'dead', lease_ms = {}, expires_at_ms = {}",
            lease.as_millis(),
            now_ms() + remaining_ms,
        ),
    )
    .await;
}

fn now_ms() -> i64 {
    i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap()
}

pub(crate) async fn a_lease_that_has_longer_to_go_than_it_is_long_is_over<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    abandoned::<S>(&pool, Duration::from_secs(5), 3_600_000).await;
    let mut subscription = reader::<S>(&pool, SqlSubscriberConfig::default()).subscribe("t").await.unwrap();
    let delivery = next(&mut subscription).await;
    assert!(delivery.info().redelivered());
    assert_eq!(payload(&delivery), "0");
}

pub(crate) async fn the_length_of_a_lease_is_that_of_its_owner<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    abandoned::<S>(&pool, Duration::from_secs(3_600), 1_800_000).await;
    let mut subscription = reader::<S>(&pool, SqlSubscriberConfig::default()).subscribe("t").await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(700), subscription.next()).await;
    assert!(early.is_err(), "its owner has asked for an hour");
}

fn queue<S: Server>(pool: &Pool<S::Database>) -> SqlPublisher<S::Database> {
    SqlPublisher::new(pool.clone(), SqlPublisherConfig::default().layout(Layout::Queue)).unwrap()
}

fn worker<S: Server>(pool: &Pool<S::Database>) -> SqlQueueSubscriber<S::Database> {
    let config = SqlQueueSubscriberConfig::default()
        .visibility_timeout(Duration::from_secs(2))
        .poll_interval_max(Duration::from_millis(20));
    SqlQueueSubscriber::new(pool.clone(), config).unwrap()
}

const AN_HOUR_AHEAD: &str = "update watermill_t set due_ms = due_ms + 3600000";

pub(crate) async fn a_queued_row_without_a_delay_depends_on_no_clock<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    queue::<S>(&pool).publish("t", numbered(0..1)).await.unwrap();
    // By whoever publishes with plain SQL, too.
    S::execute(&pool, "insert into watermill_t (uuid, payload) values ('plain', '1')").await;
    S::execute(&pool, AN_HOUR_AHEAD).await;
    let mut subscription = worker::<S>(&pool).subscribe("t").await.unwrap();
    for n in 0..2 {
        let delivery = next(&mut subscription).await;
        assert_eq!(payload(&delivery), n.to_string());
        delivery.ack();
    }
}

/// By a stop, untried, and by a nack.
pub(crate) async fn what_was_given_back_without_a_delay_depends_on_no_clock<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    queue::<S>(&pool).publish("t", numbered(0..20)).await.unwrap();
    let mut subscription = worker::<S>(&pool).subscribe("t").await.unwrap();
    let nacked = next(&mut subscription).await;
    subscription.stop_intake();
    nacked.nack();
    subscription.close().await.unwrap();
    assert_eq!(S::number(&pool, "select count(*) from watermill_t where owner is not null").await, 0);
    S::execute(&pool, AN_HOUR_AHEAD).await;
    let mut subscription = worker::<S>(&pool).subscribe("t").await.unwrap();
    let mut attempts = std::collections::BTreeMap::new();
    for _ in 0..20 {
        let delivery = next(&mut subscription).await;
        attempts.insert(payload(&delivery).parse::<usize>().unwrap(), delivery.info().attempt());
        delivery.ack();
    }
    assert_eq!(attempts.into_values().collect::<Vec<_>>(), [&[2][..], &[1; 19]].concat());
}

pub(crate) async fn a_claim_that_has_longer_to_go_than_it_is_long_is_over<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    queue::<S>(&pool).publish("t", numbered(0..1)).await.unwrap();
    S::execute(
        &pool,
        &format!("update watermill_t set owner = 'dead', attempts = 1, due_ms = {}", now_ms() + 3_600_000),
    )
    .await;
    let mut subscription = worker::<S>(&pool).subscribe("t").await.unwrap();
    let delivery = next(&mut subscription).await;
    assert_eq!((payload(&delivery), delivery.info().attempt()), ("0", 2));
}

pub(crate) async fn rows_that_wait_for_a_time_are_not_kept_waiting_by_those_that_do_not<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    let publisher = queue::<S>(&pool);
    publisher.publish("t", vec![Message::new("\"due\"").delay_for(Duration::from_millis(1))]).await.unwrap();
    publisher.publish("t", numbered(0..400)).await.unwrap();
    let config = SqlQueueSubscriberConfig::default().batch_size(1);
    let worker = SqlQueueSubscriber::new(pool.clone(), config).unwrap();
    let mut subscription = worker.subscribe("t").await.unwrap();
    // However many rows there are that need no time to be due.
    for seen in 0.. {
        let delivery = next(&mut subscription).await;
        let is_due = payload(&delivery) == "\"due\"";
        delivery.ack();
        if is_due {
            break;
        }
        assert!(seen < 100, "it is kept waiting");
    }
}
