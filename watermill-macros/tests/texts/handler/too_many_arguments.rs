use watermill_core::{Handler, MemoryBroker, MessageId, Router};

type Id = MessageId;

async fn handle(_: Id, _: Id, _: Id, _: Id, _: Id, _: Id, _: Id, _: Id, _: Id) {}

fn main() {
    let broker = MemoryBroker::new();
    let handler = Handler::new("handle", handle).from(broker.subscriber(), "in");
    let _ = Router::new().add(handler);
}
