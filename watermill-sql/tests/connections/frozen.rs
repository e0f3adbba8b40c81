//! Processes that freeze in the middle of a transaction, as a stopped one does: the server sees a connection on
//! which nothing happens.

use futures::future::join_all;
use watermill_sql::StartPosition;

use super::*;
use crate::{proxy::Proxy, server::Remote};

/// How long messages, and the lease, are somebody's.
const TIME: Duration = Duration::from_secs(1);
/// More messages to the server than a claim, a dead letter and two acks take.
const MOMENTS: u32 = 24;

pub(crate) async fn a_worker_that_freezes_at_any_moment_hides_no_message_for_longer_than_its_time<
    S: Remote,
>() {
    let server = S::default();
    let pool = server.pool(10).await;
    let freezing = (0..MOMENTS).map(|moment| freeze_worker(&server, &pool, moment));
    join_all(freezing).await;
}

async fn freeze_worker<S: Remote>(server: &S, pool: &Pool<S::Database>, moment: u32) {
    let topic = format!("frozen_{moment}");
    let config = SqlQueueSubscriberConfig::default().visibility_timeout(TIME).dead_letter_topic("dead");
    let heir = worker::<S>(pool, config.clone());
    heir.initialize(&topic).await.unwrap();
    let proxy = Proxy::to(server.address()).await;
    let frozen_pool = server.pool_at(proxy.port, 1).await;
    let frozen = worker::<S>(&frozen_pool, config);
    let mut frozen = frozen.subscribe(&topic).await.unwrap();
    frozen.set_window(window(4));
    proxy.fall_silent_after(moment);
    publisher::<S>(pool, Layout::Queue).publish(&topic, numbered(0..4)).await.unwrap();
    // Does what there is to be done until it freezes, and once more: acks, nacks, rejects.
    let working = async {
        let mut outcomes = [
            Outcome::Reject { reason: "no".to_owned() },
            Outcome::Nack { delay: Duration::ZERO },
            Outcome::Ack,
            Outcome::Ack,
        ]
        .into_iter()
        .cycle();
        while let Some(delivery) = frozen.next().await {
            if let Ok(delivery) = delivery {
                delivery.settle(outcomes.next().unwrap());
            }
        }
    };
    let heir = async {
        let mut heir = heir.subscribe(&topic).await.unwrap();
        let left = format!("select count(*) from watermill_{topic}");
        while S::number(pool, &left).await > 0 {
            let delivery = tokio::time::timeout(Duration::from_millis(50), heir.next());
            if let Ok(Some(Ok(delivery))) = delivery.await {
                delivery.ack();
            }
        }
    };
    let what = format!("what a worker had that froze after {moment} messages to the server");
    tokio::select! {
        () = working => unreachable!("the stream goes on"),
        () = within(&what, heir) => {}
    }
    std::mem::forget(frozen_pool);
}

pub(crate) async fn a_reader_that_freezes_at_any_moment_is_succeeded<S: Remote>() {
    let server = S::default();
    let pool = server.pool(10).await;
    let freezing = (0..MOMENTS).map(|moment| freeze_reader(&server, &pool, moment));
    join_all(freezing).await;
}

async fn freeze_reader<S: Remote>(server: &S, pool: &Pool<S::Database>, moment: u32) {
    let topic = format!("frozen_{moment}");
    let config = SqlSubscriberConfig::default().lease(TIME).group("g").dead_letter_topic("dead");
    let heir = reader::<S>(pool, config.clone());
    heir.initialize(&topic).await.unwrap();
    publisher::<S>(pool, Layout::Log).publish(&topic, numbered(0..4)).await.unwrap();
    let proxy = Proxy::to(server.address()).await;
    let frozen_pool = server.pool_at(proxy.port, 1).await;
    let frozen = reader::<S>(&frozen_pool, config);
    // It may freeze while it subscribes.
    proxy.fall_silent_after(moment + 10);
    let working = async {
        let Ok(mut subscription) = frozen.subscribe(&topic).await else { return };
        while let Some(delivery) = subscription.next().await {
            if let Ok(delivery) = delivery {
                match delivery.info().attempt() {
                    1 => delivery.nack(),
                    _ => delivery.reject("no"),
                }
            }
        }
    };
    let heir = async {
        let mut heir = heir.subscribe(&topic).await.unwrap();
        let newest = S::number(pool, &format!("select max({}) from watermill_{topic}", S::OFFSET)).await;
        let position = format!("select offset_acked from watermill_offsets_{topic}");
        while S::number(pool, &position).await < newest {
            let delivery = tokio::time::timeout(Duration::from_millis(50), heir.next());
            if let Ok(Some(Ok(delivery))) = delivery.await {
                delivery.ack();
            }
        }
    };
    let what = format!("what a reader had that froze after {moment} messages to the server");
    let heir = within(&what, heir);
    tokio::pin!(heir);
    tokio::select! {
        () = working => heir.await,
        () = &mut heir => {}
    }
    std::mem::forget(frozen_pool);
}

/// Whoever makes a group has its row locked until the end of a transaction, for which everybody waits who wants the group
/// to be there.
pub(crate) async fn a_group_that_is_being_made_by_who_freezes_is_made_by_another<S: Remote>() {
    /// More messages to the server than it takes to make the tables and the group.
    const MOMENTS: u32 = 64;

    let server = S::default();
    let pool = server.pool(10).await;
    // The tables that are common to all.
    let config = SqlSubscriberConfig::default().lease(TIME).start(StartPosition::Latest);
    reader::<S>(&pool, config.clone()).initialize("first").await.unwrap();
    let freezing = (0..MOMENTS).map(async |moment| {
        let topic = format!("making_{moment}");
        publisher::<S>(&pool, Layout::Log).publish(&topic, numbered(0..1)).await.unwrap();
        let proxy = Proxy::to(server.address()).await;
        let frozen_pool = server.pool_at(proxy.port, 1).await;
        let frozen = reader::<S>(&frozen_pool, config.clone().group("g"));
        proxy.fall_silent_after(moment);
        let making = frozen.initialize(&topic);
        tokio::pin!(making);
        let made = loop {
            tokio::select! {
                made = &mut making => break made.is_ok(),
                () = tokio::time::sleep(Duration::from_millis(5)) => if proxy.is_silent() { break false },
            }
        };
        let heir = reader::<S>(&pool, config.clone().group("g"));
        let what = format!("a group whose maker froze after {moment} messages to the server");
        within(&what, async { while heir.initialize(&topic).await.is_err() {} }).await;
        std::mem::forget(frozen_pool);
        made
    });
    let made = join_all(freezing).await;
    assert!(!made[0] && made[MOMENTS as usize - 1], "it froze before and after: {made:?}");
}
