use watermill_core::{Json, debug_handler};

struct Order;

#[debug_handler]
async fn handle(_: Json<Order>) {}

fn main() {}
