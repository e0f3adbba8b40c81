//! The watch has a connection of its own, which falls silent alone.

use watermill_core::Backoff;

use super::*;
use crate::{proxy::Proxy, server::Remote};

const NEVER: Duration = Duration::from_secs(24 * 3_600);
/// How long nobody watches after the watch has failed.
const AWAY: Duration = Duration::from_secs(4);

/// One row more of both topics, by somebody whom no reader notices who is not watched for.
async fn insert<S: Server>(pool: &Pool<S::Database>, n: usize) {
    let mut connection = pool.acquire().await.unwrap();
    for topic in ["log", "queue"] {
        let row =
            format!("insert into watermill_{topic} (uuid, payload, metadata) values ('{n}', '{n}', '{{}}')");
        S::execute(&mut connection, &row).await;
    }
}

async fn until_health(subscription: &Subscription, what: &str, is_it: impl Fn(&Health) -> bool) {
    within(what, async {
        while !is_it(&subscription.status().health) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Lets a connection fall silent that asks something; whether it was the watch's.
async fn falls_silent(proxy: &Proxy, subscriptions: &[Subscription]) -> bool {
    let swallowed = proxy.swallowed();
    proxy.fall_silent();
    while proxy.swallowed() == swallowed {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    proxy.recover();
    let said = async {
        while !subscriptions.iter().all(|it| says_that_nobody_watches(&it.status().health)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), said).await.is_ok()
}

fn says_that_nobody_watches(health: &Health) -> bool {
    matches!(health, Health::Degraded { reason } if reason.contains("not watching") && reason.contains("5s"))
}

pub(crate) async fn a_watch_whose_connection_is_half_open_is_said_and_begun_anew<S: Remote>() {
    let server = S::default();
    let others = server.pool(1).await;
    let proxy = Proxy::to(server.address()).await;
    let pool = server.pool_at(proxy.port, 4).await;
    let (retry, long) = (Backoff::constant(AWAY), Duration::from_secs(120));
    let log = SqlSubscriberConfig::default().lease(long).retry(retry);
    let log =
        SqlSubscriber::new(pool.clone(), log.poll_interval_min(NEVER).poll_interval_max(NEVER)).unwrap();
    let queue = SqlQueueSubscriberConfig::default().visibility_timeout(long).retry(retry);
    let queue = queue.poll_interval_min(NEVER).poll_interval_max(NEVER);
    let queue = SqlQueueSubscriber::new(pool.clone(), queue).unwrap();
    let mut subscriptions = [log.subscribe("log").await.unwrap(), queue.subscribe("queue").await.unwrap()];
    insert::<S>(&others, 0).await;
    for subscription in &mut subscriptions {
        next(subscription).await.ack_confirmed().await.unwrap();
    }

    // Now and then a reader has something to say as well, and what is swallowed first is not the watch's.
    within("that nobody watches", async { while !falls_silent(&proxy, &subscriptions).await {} }).await;
    insert::<S>(&others, 1).await;
    for subscription in &mut subscriptions {
        let delivery = next(subscription).await;
        assert_eq!(delivery.payload(), "1");
        delivery.ack_confirmed().await.unwrap();
        until_health(subscription, "a watch", |health| *health == Health::Healthy).await;
    }
    insert::<S>(&others, 2).await;
    for subscription in &mut subscriptions {
        assert_eq!(next(subscription).await.payload(), "2");
    }
}
