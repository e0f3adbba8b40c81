use std::time::Duration;

use watermill_core::{Handler, MemoryBroker, Message, Router};

use std::convert::Infallible;

async fn handle(messages: Vec<Message>) -> Vec<Result<Message, Infallible>> {
    messages.into_iter().map(Ok).collect()
}

fn main() {
    let broker = MemoryBroker::new();
    let handler = Handler::batch("handle", 10, Duration::ZERO, handle).from(broker.subscriber(), "in");
    let _ = Router::new().add(handler);
}
