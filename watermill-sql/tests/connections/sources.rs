//! Tables that are not ours: their readers and workers keep what they have while handlers have the pool, and whoever freezes
//! is succeeded, as with tables of ours.

use futures::future::join_all;
use watermill_sql::{AfterAck, SqlSource};

use super::*;
use crate::renewing::kept_while_handlers_have_the_pool;

/// How long messages, and the lease, are somebody's.
const TIME: Duration = Duration::from_secs(1);

fn source() -> SqlSource {
    SqlSource::table("outbox").offset("seq").after_ack(AfterAck::Delete)
}

fn log<S: Server>(pool: &Pool<S::Database>) -> SqlSubscriber<S::Database> {
    reader::<S>(pool, SqlSubscriberConfig::default().lease(TIME).source(source()))
}

fn queue<S: Server>(pool: &Pool<S::Database>) -> SqlQueueSubscriber<S::Database> {
    worker::<S>(pool, SqlQueueSubscriberConfig::default().visibility_timeout(TIME).source(source()))
}

/// Makes the table, with so many rows.
async fn fill<S: Server>(pool: &Pool<S::Database>, rows: usize) {
    let mut connection = pool.acquire().await.unwrap();
    S::execute(&mut connection, S::OUTBOX).await;
    for row in 0..rows {
        let insert = format!("insert into outbox (id, payload) values ('id-{row}', '{row}')");
        S::execute(&mut connection, &insert).await;
    }
}

async fn left<S: Server>(pool: &Pool<S::Database>) -> i64 {
    S::number(pool, "select count(*) from outbox").await
}

pub(crate) async fn a_reader_of_a_table_keeps_its_rows_while_handlers_have_the_pool<S: Server>() {
    let server = S::default();
    fill::<S>(&server.pool(1).await, 1).await;
    kept_while_handlers_have_the_pool(&server, "outbox", |pool| Box::new(log::<S>(pool))).await;
}

pub(crate) async fn a_worker_on_a_table_keeps_its_rows_while_handlers_have_the_pool<S: Server>() {
    let server = S::default();
    fill::<S>(&server.pool(1).await, 1).await;
    kept_while_handlers_have_the_pool(&server, "outbox", |pool| Box::new(queue::<S>(pool))).await;
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(crate) async fn a_reader_of_a_table_that_freezes_at_any_moment_is_succeeded<S: crate::server::Remote>() {
    freeze_at_any_moment::<S>(|pool| Box::new(log::<S>(pool))).await;
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(crate) async fn a_worker_on_a_table_that_freezes_at_any_moment_is_succeeded<S: crate::server::Remote>() {
    freeze_at_any_moment::<S>(|pool| Box::new(queue::<S>(pool))).await;
}

/// Each in a database of its own, because a table is one topic.
#[cfg(any(feature = "postgres", feature = "mysql"))]
async fn freeze_at_any_moment<S: crate::server::Remote>(
    subscriber: impl Fn(&Pool<S::Database>) -> Box<dyn Subscriber>,
) {
    /// More messages to the server than a claim, a nack and two acks take.
    const MOMENTS: u32 = 20;

    join_all((0..MOMENTS).map(|moment| freeze::<S>(&subscriber, moment))).await;
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
async fn freeze<S: crate::server::Remote>(
    subscriber: &impl Fn(&Pool<S::Database>) -> Box<dyn Subscriber>,
    moment: u32,
) {
    let server = S::default();
    let pool = server.pool(3).await;
    fill::<S>(&pool, 4).await;
    let proxy = crate::proxy::Proxy::to(server.address()).await;
    let frozen_pool = server.pool_at(proxy.port, 1).await;
    let frozen = subscriber(&frozen_pool);
    // It may freeze while it subscribes.
    proxy.fall_silent_after(moment + 10);
    let working = async {
        let Ok(mut subscription) = frozen.subscribe("outbox").await else { return };
        while let Some(delivery) = subscription.next().await {
            match delivery {
                Ok(delivery) if delivery.info().attempt() == 1 => delivery.nack(),
                Ok(delivery) => delivery.ack(),
                Err(_) => {}
            }
        }
    };
    let heir = subscriber(&pool);
    let heir = async {
        let mut heir = heir.subscribe("outbox").await.unwrap();
        while left::<S>(&pool).await > 0 {
            let delivery = tokio::time::timeout(Duration::from_millis(50), heir.next());
            if let Ok(Some(Ok(delivery))) = delivery.await {
                delivery.ack();
            }
        }
    };
    let what = format!("the rows of one that froze after {moment} messages to the server");
    let heir = within(&what, heir);
    tokio::pin!(heir);
    tokio::select! {
        () = working => heir.await,
        () = &mut heir => {}
    }
    std::mem::forget(frozen_pool);
}
