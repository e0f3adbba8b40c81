use std::time::Duration;

use watermill_core::{Handler, MemoryBroker, Message, Router};

use std::rc::Rc;

async fn handle(messages: Vec<Message>) {
    let count = Rc::new(messages.len());
    tokio::task::yield_now().await;
    drop(count);
}

fn main() {
    let broker = MemoryBroker::new();
    let handler = Handler::batch("handle", 10, Duration::ZERO, handle).from(broker.subscriber(), "in");
    let _ = Router::new().add(handler);
}
