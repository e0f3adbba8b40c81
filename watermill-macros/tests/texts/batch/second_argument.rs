use std::time::Duration;

use watermill_core::{Handler, Json, MemoryBroker, Message, Router};

async fn handle(_: Vec<Message>, _: Json<u64>) {}

fn main() {
    let broker = MemoryBroker::new();
    let handler = Handler::batch("handle", 10, Duration::ZERO, handle).from(broker.subscriber(), "in");
    let _ = Router::new().add(handler);
}
