use watermill_core::{Handler, MemoryBroker, Message, Router};

async fn handle(message: Message) -> Message {
    message
}

fn main() {
    let broker = MemoryBroker::new();
    let handler = Handler::new("handle", handle).from(broker.subscriber(), "in").to_topics(broker.publisher());
    let _ = Router::new().add(handler);
}
