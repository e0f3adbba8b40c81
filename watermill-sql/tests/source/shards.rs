//! Tables that are not ours, read in shards: what one shard is done with may be deleted before another has come to it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use tokio::task::JoinHandle;
use watermill_core::subscriber::{Sharding, Shards};
use watermill_sql::{SqlShardCounts, SqlStatus};

use super::{
    outbox::{count, fill, source},
    *,
};

/// Handles whatever comes of one shard.
struct Worker {
    handled: Arc<Mutex<BTreeSet<String>>>,
    task: JoinHandle<()>,
}

impl Worker {
    async fn start(shards: &Arc<dyn Shards>, number: u32) -> Self {
        let mut subscription = shards.shard(number).subscribe("outbox").await.unwrap();
        let handled: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let task = tokio::spawn({
            let handled = handled.clone();
            async move {
                while let Some(delivery) = subscription.next().await {
                    let Ok(delivery) = delivery else { continue };
                    let payload = payload(&delivery);
                    if delivery.ack_confirmed().await.is_ok() {
                        handled.lock().unwrap().insert(payload);
                    }
                }
            }
        });
        Self { handled, task }
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

async fn until(what: &str, mut look: impl AsyncFnMut() -> bool) {
    within(what, async {
        while !look().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Two shards over the outbox, of which one has a reader.
async fn two_shards<S: Outbox>(pool: &Pool<S::Database>, after_ack: AfterAck) -> (Arc<dyn Shards>, Worker) {
    let shards = log::<S>(pool, source().after_ack(after_ack)).in_group("g").unwrap();
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
    let last = i64::from(first.handled.lock().unwrap().contains("5"));
    assert_eq!(first.count() - last + second.count(), 5, "nothing but that row was passed");
}

/// Whoever is at work in the table might be writing a missing row, but for those that another shard has passed.
#[cfg(feature = "mysql")]
pub(crate) async fn rows_that_another_shard_has_deleted_are_not_waited_for() {
    use crate::databases::{TestDatabase as _, mysql_database::Database};

    let server = Database::default();
    let pool = server.with_outbox().await;
    let (shards, first) = two_shards::<Database>(&pool, AfterAck::Delete).await;
    fill::<Database>(&pool, 0..20).await;
    let status = SqlStatus::new(pool.clone()).source(source());
    until("the first shard to be through", async || {
        let log = status.log("outbox").await.unwrap();
        log.groups.iter().any(|group| group.shard == Some(0) && group.position == 20)
    })
    .await;
    let left = 20 - first.count();
    assert_eq!(count::<Database>(&pool, "1 = 1").await, left, "it deletes its rows");
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
