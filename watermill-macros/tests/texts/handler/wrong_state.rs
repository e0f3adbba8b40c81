use watermill_core::{Handler, MemoryBroker, Router, State};

#[derive(Clone)]
struct Prices;

#[derive(Clone)]
struct Rates;

async fn handle(State(_): State<Prices>) {}

fn main() {
    let broker = MemoryBroker::new();
    let handler = Handler::new("handle", handle).from(broker.subscriber(), "in");
    let _ = Router::new().with_state(Rates).add(handler);
}
