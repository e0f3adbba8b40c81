use std::sync::Arc;

use futures::StreamExt;
use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};
use tempfile::TempDir;
use tower::{Layer, Service, ServiceExt};
use watermill_core::{
    DeliveryInfo, FailurePolicy, Handler, HandlerInfo, Message, MessageId, PublisherExt, Router, Subscriber,
    delivery::Outcome,
    error::{BoxError, Permanent, find},
    router::{HandlerFn, HandlerService, types::Messages},
};
use watermill_layers::{Transactional, Tx};
use watermill_sql::{SqlPublisher, SqlPublisherConfig, SqlSubscriber, SqlSubscriberConfig};
use watermill_testkit::ScriptedSubscriber;

use crate::{Running, message};

/// A database with a table of orders, in a file that goes with the test.
struct Shop {
    pool: SqlitePool,
    _folder: TempDir,
}

impl Shop {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options =
            SqliteConnectOptions::new().filename(folder.path().join("shop.db")).create_if_missing(true);
        let pool = SqlitePoolOptions::new().max_connections(5).connect_with(options).await.unwrap();
        sqlx::query("create table orders (id text primary key)").execute(&pool).await.unwrap();
        Self { pool, _folder: folder }
    }

    async fn orders(&self) -> Vec<String> {
        sqlx::query_scalar("select id from orders").fetch_all(&self.pool).await.unwrap()
    }

    /// The ids of what was published to `invoices`: everything before a message that is published now.
    async fn invoices(&self) -> Vec<String> {
        let publisher = SqlPublisher::new(self.pool.clone(), SqlPublisherConfig::default()).unwrap();
        publisher.publish_one("invoices", Message::with_id("last", "x")).await.unwrap();
        let subscriber = SqlSubscriber::new(self.pool.clone(), SqlSubscriberConfig::default()).unwrap();
        let mut invoices = subscriber.subscribe("invoices").await.unwrap();
        let mut ids = Vec::new();
        loop {
            let delivery = invoices.next().await.unwrap().unwrap();
            let id = delivery.id().to_string();
            delivery.ack();
            if id == "last" {
                break;
            }
            ids.push(id);
        }
        invoices.close().await.unwrap();
        ids
    }
}

/// Writes the order and returns its invoice.
async fn place(mut tx: Tx, id: MessageId) -> Result<Message, BoxError> {
    sqlx::query("insert into orders values ($1)").bind(id.as_str()).execute(&mut *tx).await?;
    Ok(Message::with_id(format!("invoice of {id}"), "x"))
}

/// Handles one message with `function` in a transaction, and says how it was settled.
async fn handle<F, Args>(shop: &Shop, function: F) -> Outcome
where
    F: HandlerFn<Args, (), Kind = Messages>,
    Args: 'static,
{
    let source = ScriptedSubscriber::new();
    source.push(message("1"));
    let handler = Handler::new("place", function)
        .from(source.clone(), "orders")
        .to_topic("invoices")
        .layer(Transactional::new(shop.pool.clone()));
    let running = Running::start(Router::new().add(handler)).await;
    let (_, outcome) = source.settled(1).await.remove(0);
    running.stop().await;
    outcome
}

async fn assert_nothing_was_written(shop: &Shop) {
    assert_eq!(shop.orders().await, [""; 0]);
    assert_eq!(shop.invoices().await, [""; 0]);
}

#[tokio::test]
async fn what_a_handler_writes_and_what_it_returns_are_committed_together() {
    let shop = Shop::open().await;
    assert_eq!(handle(&shop, place).await, Outcome::Ack);
    assert_eq!(shop.orders().await, ["1"]);
    assert_eq!(shop.invoices().await, ["invoice of 1"]);
}

#[tokio::test]
async fn an_error_rolls_everything_back() {
    async fn fail(tx: Tx, id: MessageId) -> Result<Message, BoxError> {
        place(tx, id).await?;
        Err("the customer is unknown".into())
    }
    let shop = Shop::open().await;
    let outcome = handle(&shop, fail).await;
    assert!(matches!(outcome, Outcome::Nack { .. }), "{outcome:?}");
    assert_nothing_was_written(&shop).await;
}

#[tokio::test]
async fn a_panic_rolls_everything_back() {
    async fn explode(tx: Tx, id: MessageId) -> Result<Message, BoxError> {
        place(tx, id).await?;
        panic!("the customer is unheard of")
    }
    let shop = Shop::open().await;
    let outcome = handle(&shop, explode).await;
    assert!(matches!(outcome, Outcome::Nack { .. }), "{outcome:?}");
    assert_nothing_was_written(&shop).await;
}

#[tokio::test]
async fn a_delivery_that_is_lost_while_it_is_handled_writes_nothing() {
    async fn lose(tx: Tx, id: MessageId, delivery: DeliveryInfo) -> Result<Message, BoxError> {
        let invoice = place(tx, id).await;
        delivery.origin().revoke(|| [delivery.token()]);
        invoice
    }
    let (shop, source) = (Shop::open().await, ScriptedSubscriber::new());
    source.push(message("1"));
    let handler = Handler::new("place", lose)
        .from(source.clone(), "orders")
        .to_topic("invoices")
        .layer(Transactional::new(shop.pool.clone()))
        .on_failure(FailurePolicy::retry(3).then_drop());
    let running = Running::start(Router::new().add(handler)).await;
    source.settled(1).await;
    running.stop().await;
    assert_nothing_was_written(&shop).await;
}

#[tokio::test]
async fn outputs_that_cannot_be_published_roll_back_what_was_written() {
    let (shop, source) = (Shop::open().await, ScriptedSubscriber::new());
    source.push(message("1"));
    let handler = Handler::new("place", place)
        .from(source.clone(), "orders")
        .to_topic("a topic that makes no table; drop it")
        .layer(Transactional::new(shop.pool.clone()))
        .on_failure(FailurePolicy::nack().then_reject());
    let running = Running::start(Router::new().add(handler)).await;
    let (_, outcome) = source.settled(1).await.remove(0);
    assert!(matches!(outcome, Outcome::Reject { .. }), "{outcome:?}");
    running.stop().await;
    assert_nothing_was_written(&shop).await;
}

#[tokio::test]
async fn without_the_layer_a_handler_that_wants_a_transaction_says_what_is_missing() {
    let mut service = HandlerService::<_, _, ()>::new(place, ());
    let error = service.call(message("1")).await.unwrap_err();
    assert!(find::<Permanent>(&*error).is_some());
    assert!(error.to_string().contains("is the `Transactional` layer installed?"), "{error}");
}

#[tokio::test]
async fn it_works_around_any_service_without_a_router() {
    let shop = Shop::open().await;
    let place = Transactional::new(shop.pool.clone()).layer(HandlerService::new(place, ()));
    let mut handler = HandlerInfo::consumer("place", "test", "orders");
    handler.publish_topic = Some("invoices".to_owned());
    let message = message("1").with_handler(Arc::new(handler));
    let outputs = place.oneshot(message).await.unwrap();
    assert!(outputs.is_empty(), "the layer has published them");
    assert_eq!(shop.orders().await, ["1"]);
    assert_eq!(shop.invoices().await, ["invoice of 1"]);
}
