use watermill_core::{debug_handler};

use std::rc::Rc;

#[debug_handler]
async fn handle() {
    let count = Rc::new(1);
    tokio::task::yield_now().await;
    drop(count);
}

fn main() {}
