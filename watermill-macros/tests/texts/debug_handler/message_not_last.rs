use watermill_core::{Json, Message, debug_handler};

#[debug_handler]
async fn handle(_: Message, _: Json<u64>) {}

fn main() {}
