use watermill_core::{Handler, MemoryBroker, Message, Router, router::To};

async fn handle(message: Message) -> (Message, To<&'static str, Message>) {
    (message.clone(), To("out", message))
}

fn main() {
    let broker = MemoryBroker::new();
    let handler = Handler::new("handle", handle).from(broker.subscriber(), "in").to(broker.publisher(), "out");
    let _ = Router::new().add(handler);
}
