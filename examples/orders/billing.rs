//! The billing worker: makes an invoice of each order, once.

use std::time::Duration;

use sqlx::Pool;
use tokio::time::sleep;
use tower::timeout::TimeoutLayer;
use watermill_core::{
    FailurePolicy, Handler, Json, Router,
    error::{BoxError, ConfigError, Permanent},
    router::{HandlerStatus, RouterControl},
};
use watermill_forwarder::ForwarderPublisher;
use watermill_sql::{SqlInbox, SqlInboxConfig, Tx};
use watermill_telemetry::Metrics;

use crate::{
    broker::Broker,
    database::Database,
    order::{INVOICES_DUE, Invoice, ORDERS_PLACED, Order},
    slow::WarnSlow,
};

const BILL: &str = "bill";
/// Where orders end that cannot be billed.
const DEAD: &str = "billing.dead";
const RETRIES: u32 = 5;
const TIMEOUT: Duration = Duration::from_secs(10);
/// What is slow, long before it is too slow.
const SLOW: Duration = Duration::from_secs(1);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

pub(crate) fn router<D: Database>(
    pool: Pool<D>,
    broker: &Broker,
    metrics: &Metrics,
) -> Result<Router, ConfigError> {
    let inbox = SqlInbox::new(pool, SqlInboxConfig::default())?
        .publish_through(|tables| Box::new(ForwarderPublisher::new(tables)));
    let dead_letters = broker.publisher.clone();
    let bill = Handler::new(BILL, bill::<D>)
        .from(broker.billing.clone(), ORDERS_PLACED)
        .to_topic(INVOICES_DUE)
        .layer(WarnSlow::after(SLOW))
        .layer(TimeoutLayer::new(TIMEOUT))
        // Inside of the time limit: a step that takes too long is rolled back.
        .layer(inbox.layer())
        .on_failure(FailurePolicy::retry(RETRIES).then_dead_letter(dead_letters, DEAD))
        .documented();
    Ok(metrics.on(Router::new()).plugin(inbox).add(bill))
}

/// Waits until the worker has nothing to do, as far as its broker knows.
pub(crate) async fn done(control: &RouterControl) {
    let is_busy = |bill: HandlerStatus| bill.subscription.lag.unwrap_or_default() + bill.counts.in_flight > 0;
    while control.handler(BILL).is_some_and(is_busy) {
        sleep(LOOK_INTERVAL).await;
    }
}

/// The invoice, its announcement and the knowledge that the order is billed are one transaction.
async fn bill<D: Database>(mut tx: Tx<D>, Json(order): Json<Order>) -> Result<Json<Invoice>, BoxError> {
    if order.cents <= 0 {
        // It gets no better by trying again.
        return Err(Permanent::new(format!("bill {} for {} cents", order.id, order.cents)).into());
    }
    let invoice = Invoice { order: order.id, cents: order.cents };
    D::insert_invoice(&mut tx, &invoice).await?;
    Ok(Json(invoice))
}
