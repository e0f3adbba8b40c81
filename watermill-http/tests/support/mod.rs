//! What tests talk to, and with.

pub(crate) mod receiver;
pub(crate) mod sender;

use std::net::SocketAddr;

use axum::Router;
use tokio::net::TcpListener;

/// Serves on a loopback port of its own until the test's runtime ends.
pub(crate) async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}
