//! Functions with the attribute are handlers as they are without it.

use std::{fmt, time::Duration};

use watermill_core::{
    Handler, Json, MemoryBroker, Message, MessageId, Router, State, debug_batch_handler, debug_handler,
    error::BoxError,
    router::{FromRef, IntoOutputs},
};

#[derive(Clone)]
struct Prices(u64);

#[derive(Clone)]
struct Shop {
    prices: Prices,
    name: &'static str,
}

impl FromRef<Shop> for Prices {
    fn from_ref(shop: &Shop) -> Self {
        shop.prices.clone()
    }
}

#[debug_handler(state = Shop)]
async fn bill(
    _: MessageId,
    State(prices): State<Prices>,
    State(shop): State<Shop>,
    Json(pieces): Json<u64>,
) -> Result<Json<String>, BoxError> {
    Ok(Json(format!("{}: {}", shop.name, pieces * prices.0)))
}

#[debug_handler]
async fn with_a_part(State(prices): State<Prices>, message: Message) -> Option<Message> {
    (prices.0 > 0).then_some(message)
}

#[debug_handler]
async fn nothing() {}

#[debug_handler]
async fn unnamed(message: Message) -> impl IntoOutputs {
    [message]
}

#[cfg(not(test))]
#[debug_handler]
async fn not_there(_: NoSuchType) {}

#[debug_handler]
#[cfg(not(test))]
async fn not_there_either(_: NoSuchType) {}

#[debug_batch_handler(state = Shop)]
async fn batch(orders: Vec<Json<u64>>, State(prices): State<Prices>) -> Vec<Result<Json<u64>, fmt::Error>> {
    orders.into_iter().map(|Json(pieces)| Ok(Json(pieces * prices.0))).collect()
}

#[debug_batch_handler]
async fn plain_batch(_: Vec<Message>) {}

#[test]
fn what_the_attribute_accepts_a_router_takes() {
    let broker = MemoryBroker::new();
    let shop = Shop { prices: Prices(3), name: "corner" };
    let router = Router::new()
        .with_state(shop)
        .add(Handler::new("bill", bill).from(broker.subscriber(), "in").to(broker.publisher(), "out"))
        .add(Handler::new("part", with_a_part).from(broker.subscriber(), "in").to(broker.publisher(), "out"))
        .add(Handler::new("nothing", nothing).from(broker.subscriber(), "in"))
        .add(
            Handler::batch("batch", 10, Duration::ZERO, batch)
                .from(broker.subscriber(), "in")
                .to(broker.publisher(), "out"),
        )
        .add(Handler::batch("plain", 10, Duration::ZERO, plain_batch).from(broker.subscriber(), "in"));
    assert_eq!(router.to_string().lines().count(), 5);
    let _ = unnamed;
}
