//! A queue in a database: each message is handled by one of all workers, when it is due.
//!
//! ```sh
//! cargo run --bin queue_worker
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use sqlx::{SqlitePool, sqlite::SqliteConnectOptions};
use watermill_core::{
    FailurePolicy, Handler, Message, Publisher as _, Router, State, error::BoxError, router::Phase,
};
use watermill_sql::{Layout, SqlPublisher, SqlPublisherConfig, SqlQueueSubscriber, SqlQueueSubscriberConfig};

async fn remind(State(tries): State<Arc<AtomicU32>>, reminder: Message) -> Result<(), BoxError> {
    let what = String::from_utf8_lossy(reminder.payload());
    if what == "call back" && tries.fetch_add(1, Ordering::Relaxed) < 2 {
        println!("{what}: nobody answers");
        return Err("nobody answers".into());
    }
    println!("{what}: done");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let folder = tempfile::tempdir()?;
    let options =
        SqliteConnectOptions::new().filename(folder.path().join("queue.db")).create_if_missing(true);
    let pool = SqlitePool::connect_with(options).await?;

    let worker = SqlQueueSubscriber::new(pool.clone(), SqlQueueSubscriberConfig::default())?;
    let router = Router::new().with_state(Arc::new(AtomicU32::new(0))).add(
        Handler::new("remind", remind)
            .from(worker, "reminders")
            .scopes(1) // one at a time, so that what this prints has an order
            .on_failure(FailurePolicy::retry(3)),
    );
    let control = router.control();
    let running = tokio::spawn(router.run());
    control.reached(Phase::Running).await;

    let queue = SqlPublisher::new(pool, SqlPublisherConfig::default().layout(Layout::Queue))?;
    let due_in = |what: &str, millis| Message::new(what.to_owned()).delay_for(Duration::from_millis(millis));
    queue
        .publish("reminders", vec![Message::new("welcome"), due_in("call back", 100), due_in("pay", 300)])
        .await?;

    while control.handler("remind").is_some_and(|remind| remind.counts.acked < 3) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    control.stop();
    running.await??;
    Ok(())
}
