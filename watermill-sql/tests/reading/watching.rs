//! What others publish is noticed, whoever they are: none of these writers is ours, or wakes anybody.

use super::*;

const NEVER: Duration = Duration::from_secs(24 * 3_600);

/// A reader that looks when it begins and then only when it is woken.
fn asleep(config: SqlSubscriberConfig) -> SqlSubscriberConfig {
    config.poll_interval_min(NEVER).poll_interval_max(NEVER)
}

fn row(topic: &str, n: usize) -> String {
    format!("insert into watermill_{topic} (uuid, payload, metadata) values ('{n}', '{n}', '{{}}')")
}

async fn worker<S: Server>(pool: &Pool<S::Database>, config: SqlQueueSubscriberConfig) -> Subscription {
    SqlQueueSubscriber::new(pool.clone(), config).unwrap().subscribe("t").await.unwrap()
}

pub(crate) async fn what_others_commit_wakes_an_idle_reader<S: Server>() {
    for config in S::ways() {
        let server = S::default();
        let (pool, others) = (server.connect().await, server.connect().await);
        let mut subscription = reader::<S>(&pool, asleep(config)).subscribe("t").await.unwrap();
        for n in 0..3 {
            S::execute(&others, &row("t", n)).await;
            assert_eq!(read(&mut subscription, 1).await, [n.to_string()]);
        }
    }
}

pub(crate) async fn what_others_commit_wakes_an_idle_worker<S: Server>() {
    let server = S::default();
    let (pool, others) = (server.connect().await, server.connect().await);
    let config = SqlQueueSubscriberConfig::default().poll_interval_min(NEVER).poll_interval_max(NEVER);
    let mut subscription = worker::<S>(&pool, config).await;
    for n in 0..3 {
        S::execute(&others, &row("t", n)).await;
        assert_eq!(read(&mut subscription, 1).await, [n.to_string()]);
    }
}

/// The reader has been woken and has looked closely long before.
pub(crate) async fn a_row_that_commits_late_is_delivered_after_its_commit<S: Server>() {
    for config in S::ways() {
        let server = S::default();
        let (pool, others) = (server.connect().await, server.connect().await);
        let subscriber = reader::<S>(&pool, config.poll_interval_max(Duration::from_millis(300)));
        let mut subscription = subscriber.subscribe("t").await.unwrap();
        let mut late = others.begin().await.unwrap();
        S::execute_in(&mut late, &row("t", 0)).await;
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert!(subscription.next().now_or_never().is_none());
        late.commit().await.unwrap();
        assert_eq!(read(&mut subscription, 1).await, ["0"]);
    }
}

pub(crate) async fn a_message_that_others_have_made_due_is_delivered<S: Server>() {
    let server = S::default();
    let (pool, others) = (server.connect().await, server.connect().await);
    let config = SqlQueueSubscriberConfig::default().poll_interval_min(NEVER).poll_interval_max(NEVER);
    let mut subscription = worker::<S>(&pool, config).await;
    S::execute(&others, &row("t", 0)).await;
    next(&mut subscription).await.nack_after(NEVER / 2);
    // Another worker asks that somebody asks whether anything is due.
    let asking = SqlQueueSubscriberConfig::default().poll_interval_max(Duration::from_millis(10));
    let _asking = SqlQueueSubscriber::new(pool.clone(), asking).unwrap().subscribe("other").await.unwrap();
    within("the nack", async {
        while S::number(&others, "select count(*) from watermill_t where due_ms > 1 and owner is null").await
            == 0
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    S::execute(&others, "update watermill_t set due_ms = 0").await;
    assert_eq!(read(&mut subscription, 1).await, ["0"]);
}

pub(crate) async fn who_is_not_watched_for_polls<S: Server>() {
    let server = S::default();
    let (pool, others) = (server.connect().await, server.connect().await);
    let config = SqlSubscriberConfig::default().watch(false);
    let mut subscription = reader::<S>(&pool, config).subscribe("t").await.unwrap();
    S::execute(&others, &row("t", 0)).await;
    assert_eq!(read(&mut subscription, 1).await, ["0"]);
}

pub(crate) async fn a_table_that_is_gone_does_not_keep_the_others_from_being_watched<S: Server>() {
    let server = S::default();
    let (pool, others) = (server.connect().await, server.connect().await);
    let config = asleep(SqlSubscriberConfig::default());
    let mut subscription = reader::<S>(&pool, config.clone()).subscribe("t").await.unwrap();
    let _gone = reader::<S>(&pool, config).subscribe("gone").await.unwrap();
    S::execute(&others, "drop table watermill_gone").await;
    S::execute(&others, &row("t", 0)).await;
    assert_eq!(read(&mut subscription, 1).await, ["0"]);
}
