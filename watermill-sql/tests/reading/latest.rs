//! Groups that begin with what comes after they are made.

use super::*;

fn latest(config: SqlSubscriberConfig) -> SqlSubscriberConfig {
    config.group("late").start(StartPosition::Latest)
}

pub(crate) async fn a_group_that_begins_at_the_latest_row_gets_what_commits_late_and_nothing_that_was_there<
    S: Server,
>() {
    if !S::MANY_WRITERS {
        return a_group_that_begins_at_the_latest_row_of_a_table_with_gaps_gets_what_comes_after::<S>().await;
    }
    for (n, config) in S::ways().into_iter().enumerate() {
        let server = S::default();
        let pool = server.connect().await;
        let publisher = publisher::<S>(&pool);
        publisher.publish("t", numbered(0..1)).await.unwrap();
        let mut late = pool.begin().await.unwrap();
        SqlPublisher::in_transaction(&mut late).publish("t", numbered(1..2)).await.unwrap();
        publisher.publish("t", numbered(2..4)).await.unwrap();
        let subscriber = reader::<S>(&pool, latest(config));
        subscriber.initialize("t").await.unwrap();
        late.commit().await.unwrap();
        publisher.publish("t", numbered(4..5)).await.unwrap();
        let mut subscription = subscriber.subscribe("t").await.unwrap();
        assert_eq!(read(&mut subscription, 2).await, ["1", "4"], "way {n}");
    }
}

pub(crate) async fn a_group_that_begins_at_the_latest_row_of_a_table_with_gaps_gets_what_comes_after<
    S: Server,
>() {
    for (n, config) in S::ways().into_iter().enumerate() {
        let server = S::default();
        let pool = server.connect().await;
        let publisher = publisher::<S>(&pool);
        publisher.publish("t", numbered(0..10)).await.unwrap();
        S::execute(&pool, "delete from watermill_t where uuid in ('0', '1', '5')").await;
        let subscriber = reader::<S>(&pool, latest(config));
        subscriber.initialize("t").await.unwrap();
        publisher.publish("t", numbered(10..12)).await.unwrap();
        let mut subscription = subscriber.subscribe("t").await.unwrap();
        assert_eq!(read(&mut subscription, 2).await, ["10", "11"], "way {n}");
        assert!(subscription.next().now_or_never().is_none());
    }
}
