use watermill_core::{Handler, MemoryBroker, Router};

struct Mine;

async fn handle() {}

fn main() {
    let broker = MemoryBroker::new();
    let handler = Handler::new("handle", handle).from(broker.subscriber(), "in").layer(Mine);
    let _ = Router::new().add(handler);
}
