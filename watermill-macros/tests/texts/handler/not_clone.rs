use watermill_core::{Handler, Json, MemoryBroker, Router};

struct Connection;

fn main() {
    let broker = MemoryBroker::new();
    let connection = Connection;
    let handle = move |_: Json<u64>| {
        let _ = &connection;
        async {}
    };
    let handler = Handler::new("handle", handle).from(broker.subscriber(), "in");
    let _ = Router::new().add(handler);
}
