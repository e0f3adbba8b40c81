use watermill_core::{Json, MessageId, debug_handler};

type Id = MessageId;

struct Shop;

#[debug_handler]
fn not_async(_: Json<u64>) {}

#[debug_handler]
async fn too_many(_: Id, _: Id, _: Id, _: Id, _: Id, _: Id, _: Id, _: Id, _: Id) {}

#[debug_handler]
async fn generic<T>(_: Json<T>) {}

#[debug_handler]
async fn hidden(_: impl Clone) {}

#[debug_handler]
struct NoFunction;

impl Shop {
    #[debug_handler]
    async fn method(&self) {}
}

fn main() {}
