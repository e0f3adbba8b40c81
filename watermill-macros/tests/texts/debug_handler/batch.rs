use watermill_core::{Json, Message, State, debug_batch_handler};

struct Tenant;

#[debug_batch_handler]
async fn argument(_: Vec<Tenant>) {}

#[debug_batch_handler]
async fn not_a_vec(_: Message) {}

#[debug_batch_handler]
async fn none() {}

#[debug_batch_handler]
async fn second(_: Vec<Message>, _: Json<u64>) {}

#[debug_batch_handler]
async fn third(_: Vec<Message>, _: State<()>, _: State<()>) {}

#[debug_batch_handler]
async fn returned(messages: Vec<Message>) -> Vec<Message> {
    messages
}

#[debug_batch_handler]
fn not_async(_: Vec<Message>) {}

fn main() {}
