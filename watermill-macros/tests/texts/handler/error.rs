use watermill_core::{Handler, MemoryBroker, Router};

struct Refused;

async fn handle() -> Result<(), Refused> {
    Err(Refused)
}

fn main() {
    let broker = MemoryBroker::new();
    let handler = Handler::new("handle", handle).from(broker.subscriber(), "in");
    let _ = Router::new().add(handler);
}
