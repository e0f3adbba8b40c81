//! Statements that get no answer.

use super::*;
#[cfg(any(feature = "postgres", feature = "mysql"))]
use {
    crate::{proxy::Proxy, server::Remote},
    watermill_core::error::PublishErrorKind,
};

/// How long a statement may take in these tests.
const LIMIT: Duration = Duration::from_millis(500);

pub(crate) async fn a_table_that_is_locked_is_said_and_waited_for<S: Server>() {
    let server = S::default();
    let (pool, other) = (server.pool(4).await, server.pool(1).await);
    for layout in [Layout::Log, Layout::Queue] {
        let config = publishing(layout).timeout(LIMIT);
        let publisher = SqlPublisher::new(pool.clone(), config).unwrap();
        // To make the table may take longer.
        super::publisher::<S>(&pool, layout).publish("t", numbered(0..1)).await.unwrap();
        let subscriber = subscriber::<S>(&pool, layout);
        let mut subscription = subscriber.subscribe("t").await.unwrap();
        next(&mut subscription).await.ack_confirmed().await.unwrap();

        let mut holder = other.acquire().await.unwrap();
        S::execute(&mut holder, S::LOCK).await;
        let error = within("the publish", publisher.publish("t", numbered(1..2))).await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
        if S::READERS_WAIT {
            within("the health", async {
                while !matches!(subscription.status().health, Health::Degraded { .. }) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
        }
        // One that ends meanwhile does not wait for the lock.
        let second = subscriber.subscribe("t");
        let _ = within("a subscribe", second).await;

        S::execute(&mut holder, S::UNLOCK).await;
        within("a publish", async { while publisher.publish("t", numbered(2..3)).await.is_err() {} }).await;
        until_there_comes(&mut subscription, "2").await;
        within("the close", subscription.close()).await.unwrap();
        S::execute(&mut holder, "drop table watermill_t").await;
    }
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(crate) async fn a_server_that_falls_silent_is_said_and_left<S: Remote>() {
    let server = S::default();
    let direct = server.pool(1).await;
    for layout in [Layout::Log, Layout::Queue] {
        let proxy = Proxy::to(server.address()).await;
        let pool = server.pool_at(proxy.port, 2).await;
        let publisher = SqlPublisher::new(pool.clone(), publishing(layout).timeout(LIMIT)).unwrap();
        // To make the table may take longer.
        super::publisher::<S>(&pool, layout).publish("t", numbered(0..1)).await.unwrap();
        let subscriber = subscriber::<S>(&pool, layout);
        let mut subscription = subscriber.subscribe("t").await.unwrap();
        next(&mut subscription).await.ack_confirmed().await.unwrap();

        proxy.fall_silent();
        let error = within("the publish", publisher.publish("t", numbered(1..2))).await.unwrap_err();
        assert!(matches!(error.kind(), PublishErrorKind::Unavailable | PublishErrorKind::Timeout), "{error}");
        within("the health", async {
            while !matches!(subscription.status().health, Health::Degraded { .. }) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        proxy.recover();
        within("a publish", async { while publisher.publish("t", numbered(2..3)).await.is_err() {} }).await;
        until_there_comes(&mut subscription, "2").await;

        proxy.fall_silent();
        // Whether it could record what it knew, it ends.
        let _ = within("the close", subscription.close()).await;
        S::execute(&mut direct.acquire().await.unwrap(), "drop table watermill_t").await;
    }
}

/// Whatever is asked for, with a server that answers nothing any more: what subscribes takes 10 s by default.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(crate) async fn whatever_is_asked_of_a_server_that_has_fallen_silent_ends<S: Remote>() {
    use watermill_core::fenced::{FencedPublisher as _, Outgoing};
    use watermill_sql::{SqlFencedPublisher, SqlRetention, SqlRetentionConfig, SqlStatus};

    let server = S::default();
    let proxy = Proxy::to(server.address()).await;
    let pool = server.pool_at(proxy.port, 20).await;
    super::publisher::<S>(&pool, Layout::Log).publish("log", numbered(0..1)).await.unwrap();
    super::publisher::<S>(&pool, Layout::Queue).publish("queue", numbered(0..1)).await.unwrap();
    let publisher = SqlPublisher::new(pool.clone(), publishing(Layout::Log).timeout(LIMIT)).unwrap();
    let transaction = pool.begin().await.unwrap();
    let inside =
        SqlPublisher::<S::Database>::owning(transaction).config(publishing(Layout::Log).timeout(LIMIT));
    let status = SqlStatus::new(pool.clone()).timeout(LIMIT);
    let retention = SqlRetention::new(pool.clone(), SqlRetentionConfig::default().timeout(LIMIT)).unwrap();
    let fenced = publishing(Layout::Log).timeout(LIMIT);
    let fenced = SqlFencedPublisher::new(pool.clone(), fenced).unwrap();
    let mut term = fenced.begin("relay").await.unwrap();
    let by_url = S::of_a_url(pool.clone());
    let reader = reader::<S>(&pool, SqlSubscriberConfig::default().group("g"));
    let worker = worker::<S>(&pool, SqlQueueSubscriberConfig::default());
    let held = reader.subscribe("log").await.unwrap();
    // Connections that are idle, as a pool has them.
    drop(futures::future::join_all((0..8).map(|_| pool.acquire())).await);
    proxy.fall_silent();

    let subscribing = async {
        let ended = tokio::join!(
            reader.subscribe("another"),
            reader.initialize("another"),
            worker.subscribe("another_queue"),
            worker.initialize("another_queue"),
        );
        (ended.0.map(drop), ended.1, ended.2.map(drop), ended.3)
    };
    let to = ("another", publishing(Layout::Log).timeout(LIMIT));
    let verbs = async {
        let publishing = async {
            tokio::join!(publisher.publish("log", numbered(0..1)), inside.publish("log", numbered(0..1)))
        };
        let asking =
            async { tokio::join!(status.log("log"), status.queue("queue", None), status.peek("log", 0, 1)) };
        let retaining = retention.run_once("log");
        let fencing = async {
            let batch = Outgoing { topic: "log".to_owned(), messages: numbered(0..1) };
            (term.commit(vec![batch], "one".into()).await, fenced.begin("another").await.map(drop))
        };
        let initializing = publisher.initialize("another");
        let taking = async { tokio::join!(by_url.take("log", vec![(1, None)], to), by_url.ping()) };
        tokio::join!(publishing, asking, initializing, retaining, subscribing, fencing, taking)
    };
    let (published, asked, initialized, retained, subscribed, fenced, taken) =
        within("every verb", verbs).await;
    assert!(taken.0.unwrap_err().is_retryable() && taken.1.unwrap_err().is_retryable());
    assert!(fenced.0.unwrap_err().is_retryable() && fenced.1.unwrap_err().is_retryable());
    assert!(published.0.unwrap_err().is_retryable() && published.1.unwrap_err().is_retryable());
    let errors = [
        asked.0.map(drop),
        asked.1.map(drop),
        asked.2.map(drop),
        initialized,
        subscribed.0,
        subscribed.1,
        subscribed.2,
        subscribed.3,
    ];
    for error in errors {
        assert!(error.unwrap_err().is_retryable());
    }
    assert!(retained.unwrap_err().is_retryable());
    assert!(matches!(held.status().health, Health::Degraded { .. }));
    let _ = within("the close", held.close()).await;
    std::mem::forget(pool);
}

/// Acks everything up to a message; what was given up before it may have arrived.
async fn until_there_comes(subscription: &mut Subscription, payload: &str) {
    loop {
        let delivery = next(subscription).await;
        let is_it = delivery.payload() == payload;
        delivery.ack();
        if is_it {
            return;
        }
    }
}

/// A subscriber to either layout.
fn subscriber<S: Server>(pool: &Pool<S::Database>, layout: Layout) -> Box<dyn Subscriber> {
    match layout {
        Layout::Log => Box::new(reader::<S>(pool, SqlSubscriberConfig::default().lease(LIMIT).group("g"))),
        _ => {
            let config = SqlQueueSubscriberConfig::default().visibility_timeout(LIMIT);
            Box::new(worker::<S>(pool, config))
        }
    }
}
