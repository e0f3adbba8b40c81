use watermill_core::{Handler, Json, MemoryBroker, Router};

struct Tenant;

async fn handle(_: Tenant, _: Json<u64>) {}

fn main() {
    let broker = MemoryBroker::new();
    let handler = Handler::new("handle", handle).from(broker.subscriber(), "in");
    let _ = Router::new().add(handler);
}
