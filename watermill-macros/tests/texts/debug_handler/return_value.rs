use watermill_core::{debug_handler};

#[debug_handler]
async fn handle() -> Result<u64, std::fmt::Error> {
    Ok(1)
}

fn main() {}
