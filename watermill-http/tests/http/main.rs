//! What is special about HTTP: whatever a server, a sender or a browser may do.

mod answers;
mod events;
mod interop;
#[path = "../support/raw.rs"]
mod raw;
mod relay;
mod sending;
#[cfg(feature = "tls")]
mod tls;
mod webhooks;

use std::net::SocketAddr;

use axum::Router;
use tokio::{net::TcpListener, time::timeout};
use watermill_testkit::patience;

/// Serves on a loopback port of its own until the test ends.
async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn in_time<F: Future>(future: F) -> F::Output {
    timeout(patience(), future).await.expect("it happens in time")
}
