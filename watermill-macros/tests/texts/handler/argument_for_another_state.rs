use watermill_core::{Handler, MemoryBroker, Message, Router, error::Permanent, router::Extract};

#[derive(Clone)]
struct Shop;

struct Tenant;

impl Extract<Shop> for Tenant {
    type Rejection = Permanent;

    fn extract(_: &Message, _: &Shop) -> Result<Self, Permanent> {
        Ok(Self)
    }
}

async fn handle(_: Tenant) {}

fn main() {
    let broker = MemoryBroker::new();
    let handler = Handler::new("handle", handle).from(broker.subscriber(), "in");
    let _ = Router::new().add(handler);
}
