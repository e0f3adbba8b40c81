//! A service as one would run it: orders come in by HTTP, are stored and announced in one transaction, and are billed by a
//! worker that hears of them from a broker.
//!
//! ```text
//!  POST /orders ──► orders + outbox ──► relay ──► broker ──► bill ──► invoices + outbox ──► relay ──► broker
//!                   one transaction               orders.placed       one transaction                 invoices.due
//! ```
//!
//! Whatever of it is killed whenever: an order that was acknowledged is billed, and billed once. An order that comes again,
//! because its answer was lost, is the same order; a message that comes again finds its mark in the inbox.
//!
//! ```sh
//! cargo run --bin orders --features orders
//! curl -i localhost:8080/orders -H 'content-type: application/json' -d '{"id":"o-1","customer":"ada","cents":1200}'
//! curl localhost:8080/orders/o-1
//! curl localhost:8080/health/ready
//! curl localhost:8080/metrics
//! ```
//!
//! That is SQLite and a broker in memory, which forgets what it holds when the process ends; on servers nothing is forgotten:
//!
//! ```sh
//! DATABASE_URL=postgres://postgres@localhost/orders BROKER_URL=kafka://localhost:9092 \
//!     cargo run --bin orders --features orders,postgres,kafka
//! ```
//!
//! What it is made of, without connecting to anything, for people, for Graphviz, and as a document of AsyncAPI:
//!
//! ```sh
//! cargo run --bin orders --features orders -- describe # or: describe dot | json | asyncapi | bill
//! ```

mod billing;
mod broker;
mod database;
mod describe;
mod order;
mod settings;
mod shop;
mod slow;

use std::{process::ExitCode, time::Duration};

use sqlx::{Pool, Sqlite};
use tokio::{net::TcpListener, time::timeout};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing_subscriber::EnvFilter;
use watermill_core::{
    Subscriber as _,
    error::{BoxError, chain},
    router::Phase,
};
use watermill_forwarder::{DEFAULT_TOPIC, Forwarder};
use watermill_sql::{SqlSubscriber, SqlSubscriberConfig};
use watermill_telemetry::{Metrics, Pages, Watched};

use crate::{broker::Broker, database::Database, settings::Settings};

/// How long requests may take that are being answered when the service is told to stop.
const ANSWERING: Duration = Duration::from_secs(10);
/// How long the worker may then take for what it has been sent.
const BILLING: Duration = Duration::from_secs(10);
/// How long the relay of another process waits for one that was killed.
const LEASE: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("orders failed to {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), BoxError> {
    let settings = Settings::from_env()?;
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let describe = match &*arguments.iter().map(String::as_str).collect::<Vec<_>>() {
        [] => None,
        ["describe"] => Some("text"),
        ["describe", what] => Some(*what),
        _ => return Err("understand the arguments: `describe` alone or with what to print, or none".into()),
    };
    match settings.database.split(':').next() {
        Some("sqlite") => start::<Sqlite>(&settings, describe).await,
        #[cfg(feature = "postgres")]
        Some("postgres" | "postgresql") => start::<sqlx::Postgres>(&settings, describe).await,
        _ => Err(format!("open {}: this build has no such database", settings.database).into()),
    }
}

async fn start<D: Database>(settings: &Settings, describe: Option<&str>) -> Result<(), BoxError> {
    match describe {
        Some(what) => describe::print::<D>(settings, what),
        None => serve::<D>(settings).await,
    }
}

async fn serve<D: Database>(settings: &Settings) -> Result<(), BoxError> {
    let pool = D::open(&settings.database).await?;
    let broker = Broker::connect(&settings.broker)?;
    let metrics = Metrics::install()?;

    // From the end of a message's way to its beginning, so that nothing is sent that nobody hears yet.
    let worker = billing::router(pool.clone(), &broker, &metrics)?;
    let worker_control = worker.control();
    let mut worker = AbortOnDropHandle::new(tokio::spawn(worker.run()));
    tokio::select! {
        () = worker_control.reached(Phase::Running) => {}
        ended = &mut worker => return Err(ended_by_itself("bill", ended?)),
    }
    let relay = relay(pool.clone(), &broker).await?;
    let watched = Watched::new().router(worker_control.clone()).relay("relay", relay.control());
    let relaying = CancellationToken::new();
    let mut relay = AbortOnDropHandle::new(tokio::spawn(relay.run_until(relaying.clone().cancelled_owned())));
    let listener = TcpListener::bind(settings.listen)
        .await
        .map_err(|error| format!("listen on {}: {error}", settings.listen))?;
    println!("listening on http://{}", listener.local_addr()?);

    let pages = Pages::new(watched).metrics(&metrics).into_router();
    let stopping = CancellationToken::new();
    let answering = axum::serve(listener, shop::routes(pool.clone()).merge(pages))
        .with_graceful_shutdown(stopping.clone().cancelled_owned());
    let mut answering = AbortOnDropHandle::new(tokio::spawn(answering.into_future()));
    tokio::select! {
        signal = told_to_stop() => signal?,
        // A part that ends by itself takes the others with it: whoever runs this starts it again.
        ended = &mut answering => return Err(ended_by_itself("answer", ended?)),
        ended = &mut relay => return Err(ended_by_itself("relay", ended?)),
        ended = &mut worker => return Err(ended_by_itself("bill", ended?)),
    }

    // And in the other direction when it stops: what was accepted is sent, and what was sent is billed, if time allows.
    // What is left lies in the database and with the broker, for the next start.
    stopping.cancel();
    let _ = timeout(ANSWERING, &mut answering).await;
    relaying.cancel();
    let relayed = relay.await?;
    let _ = timeout(BILLING, billing::done(&worker_control)).await;
    worker_control.stop();
    let billed = worker.await?;
    broker.close().await?;
    // A request that has taken too long has a connection still.
    let _ = timeout(ANSWERING, pool.close()).await;
    println!("relayed {} messages", relayed?.forwarded);
    println!("{}", billed?);
    Ok(())
}

/// Why a part has ended that nobody has stopped.
fn ended_by_itself<T, E: Into<BoxError>>(part: &str, ended: Result<T, E>) -> BoxError {
    ended.map_or_else(Into::into, |_| format!("{part}: it has ended by itself").into())
}

/// Publishes what was committed to the outbox.
async fn relay<D: Database>(pool: Pool<D>, broker: &Broker) -> Result<Forwarder, BoxError> {
    let config = SqlSubscriberConfig::default().group("relay").lease(LEASE);
    let outbox = SqlSubscriber::new(pool, config)?;
    outbox.initialize(DEFAULT_TOPIC).await?;
    Ok(Forwarder::builder(outbox, broker.publisher.clone()).build()?)
}

/// The two ways to stop a process politely.
async fn told_to_stop() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}
