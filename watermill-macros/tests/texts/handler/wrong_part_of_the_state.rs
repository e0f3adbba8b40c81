use watermill_core::{Handler, MemoryBroker, Router, State, router::FromRef};

#[derive(Clone)]
struct Prices;

#[derive(Clone)]
struct Shop(Prices);

#[derive(Clone)]
struct Bank;

impl FromRef<Shop> for Prices {
    fn from_ref(shop: &Shop) -> Self {
        shop.0.clone()
    }
}

async fn handle(State(_): State<Prices>) {}

fn main() {
    let broker = MemoryBroker::new();
    let handler = Handler::new("handle", handle).from(broker.subscriber(), "in");
    let _ = Router::new().with_state(Bank).add(handler);
}
