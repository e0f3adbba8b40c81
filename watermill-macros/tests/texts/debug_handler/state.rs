use watermill_core::{State, debug_handler, router::FromRef};

#[derive(Clone)]
struct Prices;

#[derive(Clone)]
struct Rates;

struct Shop(Prices);

impl FromRef<Shop> for Prices {
    fn from_ref(shop: &Shop) -> Self {
        shop.0.clone()
    }
}

#[debug_handler]
async fn of_what(_: State<Prices>, _: State<Rates>) {}

#[debug_handler(state = Shop)]
async fn no_part(_: State<Prices>, _: State<Rates>) {}

#[debug_handler(status = Shop)]
async fn no_option(_: State<Prices>) {}

fn main() {}
