//! A saga: a trip is a hotel and a flight, booked with two who know nothing of each other. Where the second says no, or says
//! nothing, the first is cancelled again; and whatever of it dies whenever, no trip is left half booked.
//!
//! ```text
//!              ┌── trips ◄──────────────────── answers ◄──┐
//!              ▼                                          │
//!   trip ──► step ──► bookings ──► book (hotels, flights) ┘
//!              ▲ └──► trips.timeouts, due later ─┐
//!              └─────────────────────────────────┘
//! ```
//!
//! There is no framework in it. A saga is a row that says how far it is, a function from that and an event to the next
//! ([`trip`]), and a step in one transaction: the event is done, the row is changed, and what is to happen next is in the
//! outgoing topics, or nothing of it is so. A timeout is a message to oneself that is due later.
//!
//! ```sh
//! cargo run --bin saga              # or: saga FILE, to go on where it was killed
//! ```

mod bookings;
mod power;
mod saga;
mod trip;

use std::time::Duration;

use sqlx::{SqlitePool, sqlite::SqliteConnectOptions};
use watermill_core::{Handler, Publisher as _, Router, error::BoxError, router::Phase};
use watermill_sql::{
    Layout, SqlInbox, SqlInboxConfig, SqlPublisher, SqlPublisherConfig, SqlQueueSubscriber,
    SqlQueueSubscriberConfig,
};

use crate::{
    power::Power,
    saga::{About, TIMEOUTS, TRIPS},
    trip::Event,
};

const TABLES: &str = "
    create table if not exists trips (trip text primary key, state text not null);
    create table if not exists bookings (trip text, part text, state text not null, primary key (trip, part));
";
/// How long the messages of a process that was killed are kept for it.
const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let folder = tempfile::tempdir()?;
    let file = std::env::args().nth(1).map_or_else(|| folder.path().join("trips.db"), Into::into);
    let pool =
        SqlitePool::connect_with(SqliteConnectOptions::new().filename(file).create_if_missing(true)).await?;
    sqlx::raw_sql(TABLES).execute(&pool).await?;

    let router = router(&pool)?;
    let control = router.control();
    let running = tokio::spawn(router.run());
    control.reached(Phase::Running).await;
    for destination in ["Rome", "Atlantis", "Nowhere"] {
        request(&pool, destination).await?;
    }
    while saga::unfinished(&pool).await? > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    control.stop();
    running.await??;
    saga::print(&pool).await?;
    Ok(())
}

fn router(pool: &SqlitePool) -> Result<Router, BoxError> {
    // A message is a row of the same database: its step deletes it, and needs no other mark.
    let inbox = SqlInboxConfig::default().joins_ack(true).publishing(queues());
    let inbox = SqlInbox::new(pool.clone(), inbox)?;
    let worker = SqlQueueSubscriberConfig::default().visibility_timeout(VISIBILITY_TIMEOUT);
    let worker = || SqlQueueSubscriber::new(pool.clone(), worker.clone());
    let power = Power::from_env()?;

    let step = |name, topic| {
        let step = Handler::new(name, saga::step).from(worker()?, topic);
        Ok::<_, BoxError>(step.layer(power.clone()).layer(inbox.layer()).layer(power.clone()))
    };
    let book = Handler::new("book", bookings::book)
        .from(worker()?, saga::BOOKINGS)
        .to_topic(TRIPS)
        .layer(power.clone())
        .layer(inbox.layer())
        .layer(power.clone());
    Ok(Router::new().add(step("step", TRIPS)?).add(step("time out", TIMEOUTS)?).add(book).plugin(inbox))
}

/// The trip and the message that sets it going are stored together: asked for twice, it is one trip.
async fn request(pool: &SqlitePool, destination: &str) -> Result<(), BoxError> {
    let mut tx = pool.begin().await?;
    if saga::insert(&mut tx, destination).await? {
        let requested = About { trip: destination.to_owned(), what: Event::Requested };
        let publisher = SqlPublisher::in_transaction(&mut tx).config(queues());
        publisher.publish(TRIPS, vec![requested.to_message()?]).await?;
    }
    tx.commit().await?;
    Ok(())
}

fn queues() -> SqlPublisherConfig {
    SqlPublisherConfig::default().layout(Layout::Queue)
}
