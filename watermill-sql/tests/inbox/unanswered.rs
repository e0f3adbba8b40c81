//! A commit that is not answered while its process goes on: nobody knows whether it was done. On SQLite, where a hook
//! holds it up.

use std::{
    sync::{Arc, Barrier, Mutex},
    time::Duration,
};

use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
};
use tokio::sync::Notify;
use watermill_core::{Backoff, Message, Publisher, Subscriber, Subscription, Window, delivery::Settlement};
use watermill_sql::{SqlPublisher, SqlPublisherConfig, SqlSubscriberConfig};

use crate::{
    joined_log::{bill, joining, next, position, reader, records_late},
    message,
    server::{File, Server},
};

/// Holds up one commit.
#[derive(Clone, Default)]
struct Hook(Arc<Mutex<Option<Arc<Barrier>>>>, Arc<Notify>);

impl Hook {
    /// The next commit waits for somebody else at what is returned.
    fn hold(&self) -> Arc<Barrier> {
        let held = Arc::new(Barrier::new(2));
        *self.0.lock().unwrap() = Some(held.clone());
        held
    }

    fn commits(&self) {
        let held = self.0.lock().unwrap().take();
        if let Some(held) = held {
            self.1.notify_one();
            held.wait();
        }
    }
}

async fn pool(folder: &std::path::Path, hook: &Hook) -> SqlitePool {
    let options = SqliteConnectOptions::new()
        .filename(folder.join("inbox.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal);
    let hook = hook.clone();
    let pool = SqlitePoolOptions::new().max_connections(4).after_connect(move |connection, _| {
        let hook = hook.clone();
        Box::pin(async move {
            connection.lock_handle().await?.set_commit_hook(move || {
                hook.commits();
                true
            });
            Ok(())
        })
    });
    pool.connect_with(options).await.unwrap()
}

/// A subscription with two of three messages in hand, the second of which was done by a step whose commit was not answered.
/// Its lease has to be so long that no renewal's commit is held up instead.
async fn not_answered(
    pool: &SqlitePool,
    hook: &Hook,
    config: SqlSubscriberConfig,
) -> (Subscription, [(Message, Settlement); 2]) {
    File::execute(pool, "create table effects (id varchar(300))").await;
    let publisher = SqlPublisher::new(pool.clone(), SqlPublisherConfig::default()).unwrap();
    publisher.publish("orders", ["1", "2", "3"].map(message).into()).await.unwrap();
    let inbox = joining::<File>(pool);
    let mut subscription = reader::<File>(pool, config).subscribe("orders").await.unwrap();
    subscription.set_window(Window::unordered(3.try_into().unwrap()));
    let in_hand = [next(&mut subscription).await, next(&mut subscription).await];
    // Done ahead of the first, so that the position does not tell.
    let held = hook.hold();
    tokio::select! {
        done = bill::<File>(&inbox, &in_hand[1].0) => panic!("its commit is held up: {done:?}"),
        () = hook.1.notified() => {}
    }
    held.wait();
    (subscription, in_hand)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_commit_that_is_not_answered_a_log_is_read_anew_and_nothing_is_done_twice() {
    let (folder, hook) = (tempfile::tempdir().unwrap(), Hook::default());
    let pool = pool(folder.path(), &hook).await;
    let config = SqlSubscriberConfig::default()
        .lease(Duration::from_secs(600))
        .retry(Backoff::exponential(Duration::from_millis(5)));
    let (mut subscription, [(one, first), (_, second)]) = not_answered(&pool, &hook, config).await;
    let inbox = joining::<File>(&pool);
    second.nack();
    // Whoever has the first from before has lost it.
    assert!(bill::<File>(&inbox, &one).await.is_err());
    first.nack();
    let mut ids = Vec::new();
    while ids.len() < 2 {
        let (order, settlement) = next(&mut subscription).await;
        // What was handed out before the end of the term is lost, and comes again.
        match bill::<File>(&inbox, &order).await {
            Ok(_) => ids.push(order.id().to_string()),
            Err(_) => settlement.nack(),
        }
    }
    ids.sort();
    assert_eq!(ids, ["1", "3"]);
    let effects = "select count(*) * 10 + count(distinct id) from effects";
    assert_eq!((File::number(&pool, effects).await, position::<File>(&pool).await), (33, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_commit_that_is_not_answered_the_lease_is_given_back_at_the_end() {
    let (folder, hook) = (tempfile::tempdir().unwrap(), Hook::default());
    let pool = pool(folder.path(), &hook).await;
    let (subscription, in_hand) = not_answered(&pool, &hook, records_late()).await;
    drop(in_hand);
    let error = subscription.close().await.unwrap_err().to_string();
    assert!(error.contains("the commit of a step was not answered"), "{error}");
    let other = reader::<File>(&pool, SqlSubscriberConfig::default());
    let mut subscription = other.subscribe("orders").await.unwrap();
    for id in ["1", "3"] {
        let (order, settlement) = next(&mut subscription).await;
        assert_eq!((order.id().as_str(), order.delivery().unwrap().redelivered()), (id, true));
        settlement.ack();
    }
}
