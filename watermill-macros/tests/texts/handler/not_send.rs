use watermill_core::{Handler, MemoryBroker, Router};

use std::rc::Rc;

async fn handle() {
    let count = Rc::new(1);
    tokio::task::yield_now().await;
    drop(count);
}

fn main() {
    let broker = MemoryBroker::new();
    let handler = Handler::new("handle", handle).from(broker.subscriber(), "in");
    let _ = Router::new().add(handler);
}
