use std::time::Duration;

use watermill_core::{Handler, MemoryBroker, Router};

struct Tenant;

async fn handle(_: Vec<Tenant>) {}

fn main() {
    let broker = MemoryBroker::new();
    let handler = Handler::batch("handle", 10, Duration::ZERO, handle).from(broker.subscriber(), "in");
    let _ = Router::new().add(handler);
}
