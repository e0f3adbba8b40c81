use watermill_core::{Json, debug_handler};

struct Order;

#[debug_handler]
async fn handle(_: Json<u64>, _: Order) {}

fn main() {}
