//! A service that takes signed webhooks in: a router handles them, and each is answered when it is done.
//!
//! ```sh
//! cargo run --bin webhook_in --features http
//! ```
//!
//! It sends itself a good one, one that somebody has forged, and the good one again.

use std::time::Duration;

use tokio::net::TcpListener;
use watermill_core::{
    Handler, Message, PublisherExt as _, Router,
    error::{BoxError, chain},
    middleware::{Deduplicator, MemoryDeduplicationStore},
    router::Phase,
};
use watermill_http::{HttpPublisher, HttpPublisherConfig, HttpSubscriber, HttpSubscriberConfig};

/// What sender and receiver share. A real one comes from where secrets are kept.
const SECRET: &str = "whsec_b3VyIHNlY3JldCBvZiBhdCBsZWFzdCAyNCBieXRlcw==";
const ANOTHER: &str = "whsec_YSBndWVzcyBvZiBzb21lYm9keSB3aG8ga25vd3Mgbm90aGluZw==";

async fn ship(order: Message) -> Result<(), BoxError> {
    println!("shipping {}", str::from_utf8(order.payload())?);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let webhooks = HttpSubscriber::new(HttpSubscriberConfig::default().verify_with([SECRET.parse()?]))?;
    let app = axum::Router::new().route("/hooks/orders", webhooks.route("orders.placed"));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/hooks/orders", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, app).await });

    // Senders repeat what they have no answer to, and whoever has seen a request can send it again for five minutes.
    let once = Deduplicator::new(MemoryDeduplicationStore::new(Duration::from_secs(3600), 100_000));
    let router = Router::new().add(Handler::new("ship", ship).from(webhooks, "orders.placed").layer(once));
    let control = router.control();
    let running = tokio::spawn(router.run_until(std::future::pending::<()>()));
    control.reached(Phase::Running).await;

    let order = Message::with_id("order-7", "a plum cake to Mrs Miller");
    for (what, secret) in [("a good one", SECRET), ("a forged one", ANOTHER), ("the good one again", SECRET)]
    {
        let config = HttpPublisherConfig::default().url(&url).sign_with([secret.parse()?]);
        match HttpPublisher::new(config)?.publish_one("orders.placed", order.clone()).await {
            Ok(()) => println!("{what}: accepted"),
            Err(error) => println!("{what}: {}", chain(&error)),
        }
    }

    control.stop();
    println!("{}", running.await??);
    Ok(())
}
