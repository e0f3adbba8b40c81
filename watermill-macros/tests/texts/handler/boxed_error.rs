use watermill_core::{Handler, MemoryBroker, Router};

use std::error::Error;

async fn handle() -> Result<(), Box<dyn Error>> {
    Ok(())
}

fn main() {
    let broker = MemoryBroker::new();
    let handler = Handler::new("handle", handle).from(broker.subscriber(), "in");
    let _ = Router::new().add(handler);
}
