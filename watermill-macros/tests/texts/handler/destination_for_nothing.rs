use watermill_core::{Handler, MemoryBroker, Message, Router};

async fn handle(_: Message) {}

fn main() {
    let broker = MemoryBroker::new();
    let handler = Handler::new("handle", handle).from(broker.subscriber(), "in").to(broker.publisher(), "out");
    let _ = Router::new().add(handler);
}
