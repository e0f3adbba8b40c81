use watermill_core::{debug_handler};

struct Refused;

#[debug_handler]
async fn handle() -> Result<(), Refused> {
    Err(Refused)
}

fn main() {}
