use watermill_core::{Handler, MemoryBroker, Router};

async fn handle() -> u64 {
    1
}

fn main() {
    let broker = MemoryBroker::new();
    let handler = Handler::new("handle", handle).from(broker.subscriber(), "in");
    let _ = Router::new().add(handler);
}
