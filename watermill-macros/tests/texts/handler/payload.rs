use watermill_core::{Handler, Json, MemoryBroker, Router};

struct Order;

async fn handle(_: Json<Order>) {}

fn main() {
    let broker = MemoryBroker::new();
    let handler = Handler::new("handle", handle).from(broker.subscriber(), "in");
    let _ = Router::new().add(handler);
}
