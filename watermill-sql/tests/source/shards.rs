//! Tables that are not ours, read in shards: what one shard is done with may be deleted before another has come to it.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::task::JoinHandle;
use watermill_core::subscriber::{Sharding, Shards};
use watermill_sql::{SqlShardCounts, SqlStatus};

use super::{
    faults::{soon, unreadable},
    outbox::{count, fill, source},
    *,
};

/// Handles whatever comes of one shard.
struct Worker {
    handled: Arc<Mutex<BTreeSet<String>>>,
    errors: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Worker {
    async fn start(shards: &Arc<dyn Shards>, number: u32) -> Self {
        let mut subscription = shards.shard(number).subscribe("outbox").await.unwrap();
        let handled: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let errors: Arc<AtomicUsize> = Arc::default();
        let task = tokio::spawn({
            let (handled, errors) = (handled.clone(), errors.clone());
            async move {
                while let Some(delivery) = subscription.next().await {
                    let Ok(delivery) = delivery else {
                        errors.fetch_add(1, Ordering::Relaxed);
                        continue;
                    };
                    let payload = payload(&delivery);
                    if delivery.ack_confirmed().await.is_ok() {
                        handled.lock().unwrap().insert(payload);
                    }
                }
            }
        });
        Self { handled, errors, task }
    }

    fn count(&self) -> i64 {
        i64::try_from(self.handled.lock().unwrap().len()).unwrap()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Two shards over the outbox, of which one has a reader.
async fn two_shards<S: Outbox>(pool: &Pool<S::Database>, after_ack: AfterAck) -> (Arc<dyn Shards>, Worker) {
    // Nobody dies here: however slow the machine is, no lease runs out.
    let config = SqlSubscriberConfig::default().lease(Duration::from_secs(60)).retry(soon()).group("g");
    let config = config.source(source().after_ack(after_ack));
    let shards = SqlSubscriber::new(pool.clone(), config).unwrap();
    let shards = shards.shards("outbox", Sharding::new(2)).unwrap();
    let first = Worker::start(&shards, 0).await;
    let counts = SqlShardCounts::new(pool.clone());
    let now = async || counts.get("outbox", "g").await.unwrap().unwrap().now;
    until("two shards", async || now().await == 2).await;
    (shards, first)
}

pub(crate) async fn a_change_of_their_number_goes_on_where_the_row_at_its_boundary_was_deleted<S: Outbox>() {
    let server = S::default();
    let pool = server.with_outbox().await;
    let (shards, first) = two_shards::<S>(&pool, AfterAck::Keep).await;
    fill::<S>(&pool, 0..6).await;
    let (counts, status) = (SqlShardCounts::new(pool.clone()), SqlStatus::new(pool.clone()).source(source()));
    counts.set("outbox", "g", 3).await.unwrap();
    until("the first shard to be at the boundary", async || {
        let log = status.log("outbox").await.unwrap();
        log.groups.iter().any(|group| group.shard == Some(0) && group.position == 6)
    })
    .await;
    S::execute(&pool, "delete from outbox where seq = 6").await;
    // Nothing is published that would come after it.
    let second = Worker::start(&shards, 1).await;
    until("three shards", async || counts.get("outbox", "g").await.unwrap().unwrap().now == 3).await;
    until("all but that row to be handled", async || {
        let last = i64::from(first.handled.lock().unwrap().contains("5"));
        first.count() - last + second.count() == 5
    })
    .await;
}

/// It is not handed from one to the next all the time.
pub(crate) async fn a_row_that_cannot_be_read_holds_a_change_of_their_number_up_until_it_is_mended<
    S: Outbox,
>() {
    let server = S::default();
    let pool = server.with_outbox().await;
    let (shards, first) = two_shards::<S>(&pool, AfterAck::Keep).await;
    let second = Worker::start(&shards, 1).await;
    fill::<S>(&pool, 0..4).await;
    S::execute(&pool, &unreadable(4)).await;
    fill::<S>(&pool, 5..8).await;
    let counts = SqlShardCounts::new(pool.clone());
    counts.set("outbox", "g", 3).await.unwrap();
    let bounded = "select count(*) from _watermill_shards where plan like '%boundary%'";
    until("the boundary", async || S::number(&pool, bounded).await == 1).await;
    let errors = || first.errors.load(Ordering::Relaxed) + second.errors.load(Ordering::Relaxed);
    let seen = errors();
    until("it to be looked at", async || errors() >= seen + 3).await;
    let owned = "select cast(sum(token) as bigint) from _watermill_leases where consumer_group like 'g#1/%'";
    let owned = owned.replace("bigint", S::BIGINT);
    let before = S::number(&pool, &owned).await;
    let seen = errors();
    until("more looks", async || errors() >= seen + 5).await;
    assert_eq!(S::number(&pool, &owned).await, before, "its reader keeps the shard");
    S::execute(&pool, "update outbox set headers = '{}' where seq = 5").await;
    until("three shards", async || counts.get("outbox", "g").await.unwrap().unwrap().now == 3).await;
    until("all to be handled", async || first.count() + second.count() == 8).await;
}

/// Whoever is at work in the table might be writing a missing row, but for those that another shard has passed.
#[cfg(feature = "mysql")]
pub(crate) async fn rows_that_another_shard_has_deleted_are_not_waited_for() {
    use crate::databases::{TestDatabase as _, mysql_database::Database};

    let server = Database::default();
    let pool = server.with_outbox().await;
    let (shards, first) = Box::pin(two_shards::<Database>(&pool, AfterAck::Delete)).await;
    fill::<Database>(&pool, 0..20).await;
    let status = SqlStatus::new(pool.clone()).source(source());
    until("the first shard to be through", async || {
        let log = status.log("outbox").await.unwrap();
        log.groups.iter().any(|group| group.shard == Some(0) && group.position == 20)
    })
    .await;
    until("it to have deleted its rows", async || {
        count::<Database>(&pool, "1 = 1").await == 20 - first.count()
    })
    .await;
    let left = 20 - first.count();
    assert!((1..20).contains(&left));

    // As long as it has the table open, it may have drawn numbers.
    let mut busy = pool.acquire().await.unwrap().detach();
    sqlx::raw_sql("start transaction; update outbox set kind = kind where seq = 0")
        .execute(&mut busy)
        .await
        .unwrap();
    let busy = tokio::spawn(async move { sqlx::raw_sql("do sleep(1000)").execute(&mut busy).await });
    until("somebody to be at work", async || {
        let at_work = "select count(*) from information_schema.processlist
                       where db = database() and info like 'do sleep%'";
        Database::number(&pool, at_work).await > 0
    })
    .await;
    let second = Worker::start(&shards, 1).await;
    until("the rows of the second shard", async || second.count() == left).await;
    assert!(!busy.is_finished());
    busy.abort();
}
