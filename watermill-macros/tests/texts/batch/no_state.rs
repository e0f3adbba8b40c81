use std::time::Duration;

use watermill_core::{Handler, MemoryBroker, Message, Router, State};

#[derive(Clone)]
struct Prices;

async fn handle(_: Vec<Message>, State(_): State<Prices>) {}

fn main() {
    let broker = MemoryBroker::new();
    let handler = Handler::batch("handle", 10, Duration::ZERO, handle).from(broker.subscriber(), "in");
    let _ = Router::new().add(handler);
}
