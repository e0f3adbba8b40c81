//! A part of a log once more, beside the groups that read it.

use std::time::SystemTime;

use watermill_core::components::Replay;
use watermill_sql::SqlStatus;

use super::*;

fn replay<S: Server>(pool: &Pool<S::Database>) -> Replay<SqlStatus<S::Database>> {
    Replay::new(SqlStatus::new(pool.clone()))
}

/// The ids of what is replayed, each acked, until all of it is.
async fn replayed<S: Server>(replay: Replay<SqlStatus<S::Database>>) -> Vec<String> {
    let subscription = replay.subscribe("t").await.unwrap();
    let mut deliveries = subscription.take_until(Box::pin(replay.done()));
    let mut ids = Vec::new();
    while let Some(delivery) =
        tokio::time::timeout(watermill_testkit::patience(), deliveries.next()).await.expect("it goes on")
    {
        let delivery = delivery.unwrap();
        ids.push(delivery.id().to_string());
        delivery.ack();
    }
    ids
}

fn ids(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| number.to_string()).collect()
}

pub(crate) async fn a_range_of_offsets_is_replayed_and_no_group_moves<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    publisher::<S>(&pool).publish("t", numbered(0..2_500)).await.unwrap();
    let shop = || reader::<S>(&pool, SqlSubscriberConfig::default().group("shop"));
    let mut subscription = shop().subscribe("t").await.unwrap();
    read(&mut subscription, 3).await;
    subscription.close().await.unwrap();
    let status = SqlStatus::new(pool.clone());
    let rows = status.peek("t", 0, 1_000).await.unwrap();
    let at = |number: usize| rows[number].offset.unsigned_abs();
    let part = replayed::<S>(replay::<S>(&pool).from_offset(at(2)).until_offset(at(5))).await;
    assert_eq!(part, ids(2..5));
    assert_eq!(replayed::<S>(replay::<S>(&pool)).await, ids(0..2_500), "more than one look at the log");
    let log = status.log("t").await.unwrap();
    assert_eq!(log.groups.len(), 1, "{log:?}");
    assert_eq!(log.groups[0].position, rows[2].offset, "as far as it was read");
    let mut subscription = shop().subscribe("t").await.unwrap();
    assert_eq!(next(&mut subscription).await.id().as_str(), ids(3..4)[0]);
    subscription.close().await.unwrap();
}

pub(crate) async fn a_range_of_times_is_replayed<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    let (publisher, status) = (publisher::<S>(&pool), SqlStatus::new(pool.clone()));
    let mut times: Vec<(String, SystemTime)> = Vec::new();
    // Until there are rows of three times, however exact the database's clock is.
    let mut distinct = 0;
    while distinct < 3 {
        let number = times.len();
        publisher.publish("t", numbered(number..number + 1)).await.unwrap();
        let after = status.newest("t").await.unwrap().unwrap() - 1;
        let newest = status.peek("t", after, 1).await.unwrap().remove(0);
        let written = newest.published_at.unwrap();
        distinct += usize::from(times.last().is_none_or(|(_, last)| *last < written));
        times.push((newest.message.id().to_string(), written));
    }
    let second = times.iter().map(|(_, time)| *time).find(|time| *time > times[0].1).unwrap();
    let third = times[times.len() - 1].1;
    let of = |wanted: &dyn Fn(SystemTime) -> bool| -> Vec<String> {
        times.iter().filter(|(_, time)| wanted(*time)).map(|(id, _)| id.clone()).collect()
    };
    assert_eq!(
        replayed::<S>(replay::<S>(&pool).from_time(second).until_time(third)).await,
        of(&|time| time >= second && time < third)
    );
    assert_eq!(replayed::<S>(replay::<S>(&pool).until_time(second)).await, of(&|time| time < second));
    assert_eq!(replayed::<S>(replay::<S>(&pool).from_time(third)).await, of(&|time| time >= third));
}

pub(crate) async fn what_is_no_log_is_not_replayed<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    let missing = replay::<S>(&pool).subscribe("t").await.unwrap_err();
    assert_eq!(missing.kind(), SubscribeErrorKind::Topic);
    let queues = SqlPublisherConfig::default().layout(Layout::Queue);
    SqlPublisher::new(pool.clone(), queues).unwrap().publish("t", numbered(0..1)).await.unwrap();
    let refused = replay::<S>(&pool).subscribe("t").await.unwrap_err();
    assert_eq!(refused.kind(), SubscribeErrorKind::Unsupported);
    assert!(refused.to_string().contains("queue"), "{refused}");
}
