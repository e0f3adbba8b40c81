use watermill_core::{Handler, Json, Router};

async fn handle(_: Json<u64>) {}

fn main() {
    let _ = Router::new().add(Handler::new("handle", handle));
}
