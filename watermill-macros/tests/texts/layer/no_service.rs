use watermill_core::{Handler, MemoryBroker, Router};

struct Mine;

fn main() {
    let broker = MemoryBroker::new();
    let handler = Handler::service("handle", Mine).from(broker.subscriber(), "in");
    let _ = Router::new().add(handler);
}
