use watermill_core::{Handler, MemoryBroker, Router, State};

#[derive(Clone)]
struct Prices;

async fn handle(State(_): State<Prices>) {}

fn main() {
    let broker = MemoryBroker::new();
    let handler = Handler::new("handle", handle).from(broker.subscriber(), "in");
    let _ = Router::new().add(handler);
}
