use watermill_core::{Json, debug_handler};

struct Tenant;

#[debug_handler]
async fn handle(_: Tenant, _: Json<u64>) {}

fn main() {}
