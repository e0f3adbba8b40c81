//! One atomic step: a row, an event and the knowledge that the message is done are committed together, or none of them is.
//!
//! ```sh
//! cargo run --bin atomic_step
//! ```

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use sqlx::{Sqlite, SqlitePool, sqlite::SqliteConnectOptions};
use watermill_core::{
    FailurePolicy, Handler, Json, MemoryBroker, Message, Publisher as _, Router, State, error::BoxError,
    router::Phase,
};
use watermill_sql::{SqlInbox, SqlInboxConfig, Tx};

/// Writes an invoice and announces it; the first time, something goes wrong in between.
async fn bill(
    mut tx: Tx<Sqlite>,
    Json(cents): Json<i64>,
    State(is_well): State<Arc<AtomicBool>>,
) -> Result<Json<i64>, BoxError> {
    sqlx::query("insert into invoices (cents) values ($1)").bind(cents).execute(&mut *tx).await?;
    if !is_well.swap(true, Ordering::Relaxed) {
        return Err("the power is gone".into());
    }
    Ok(Json(cents))
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let folder = tempfile::tempdir()?;
    let options = SqliteConnectOptions::new().filename(folder.path().join("shop.db")).create_if_missing(true);
    let pool = SqlitePool::connect_with(options).await?;
    sqlx::query("create table invoices (cents integer)").execute(&pool).await?;

    let broker = MemoryBroker::new();
    let inbox = SqlInbox::new(pool.clone(), SqlInboxConfig::default())?;
    let router = Router::new().with_state(Arc::new(AtomicBool::new(false))).plugin(inbox.clone()).add(
        Handler::new("bill", bill)
            .from(broker.subscriber(), "orders")
            .to_topic("invoices.due") // a table of the database
            .layer(inbox.layer())
            .on_failure(FailurePolicy::retry(1)),
    );
    let control = router.control();
    let running = tokio::spawn(router.run());
    control.reached(Phase::Running).await;

    // Twice the same, as after an ack that was lost.
    let order = Message::json(&1200)?;
    broker.publisher().publish("orders", vec![order.clone(), order]).await?;
    while control.handler("bill").is_some_and(|bill| bill.counts.acked < 2) {
        tokio::task::yield_now().await;
    }
    control.stop();
    let report = running.await??;
    let invoices: i64 = sqlx::query_scalar("select count(*) from invoices").fetch_one(&pool).await?;
    println!("2 deliveries of one order, 1 failure in the middle, {invoices} invoice\n{report}");
    Ok(())
}
