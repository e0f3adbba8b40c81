//! A web page that changes by itself: whatever is published to a topic is shown by every browser that looks.
//!
//! ```sh
//! cargo run --bin live_page --features http
//! ```
//!
//! One subscription serves all browsers, by server-sent events. Here the topic is in memory and prices are made up; from a broker it is
//! the same, with a consumer group for each process.

use std::{io::Error, time::Duration};

use axum::{Router, response::Html, routing::get};
use serde::Serialize;
use tokio::{
    net::TcpListener,
    time::{interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use watermill_core::{MemoryBroker, Message, PublisherExt as _, error::BoxError};
use watermill_http::{EventStream, EventStreamConfig};

const PRICES: &str = "prices";
/// How long the server waits at its end for browsers that take nothing any more.
const GOODBYE: Duration = Duration::from_secs(2);

/// All there is to know of an article.
#[derive(Serialize)]
struct Price {
    article: &'static str,
    cents: u32,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let broker = MemoryBroker::new();
    let events = EventStream::start(&broker.subscriber(), PRICES, EventStreamConfig::default()).await?;
    let page = Router::new()
        .route("/", get(async || Html(include_str!("page.html"))))
        .route("/prices", events.route());
    let listen = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:8080".to_owned());
    let listener =
        TcpListener::bind(&listen).await.map_err(|error| format!("listen on {listen}: {error}"))?;
    println!("listening on http://{}", listener.local_addr()?);

    let changing = AbortOnDropHandle::new(tokio::spawn(change_prices(broker)));
    let stopping = CancellationToken::new();
    let serving = axum::serve(listener, page).with_graceful_shutdown(stopping.clone().cancelled_owned());
    let mut serving = AbortOnDropHandle::new(tokio::spawn(serving.into_future()));
    tokio::select! {
        signal = told_to_stop() => signal?,
        ended = &mut serving => return Ok(ended??),
        ended = changing => return ended?,
    }
    // The streams of browsers end first: a server that shuts down waits for its connections.
    events.close().await;
    stopping.cancel();
    let _ = timeout(GOODBYE, serving).await;
    Ok(())
}

/// A market of two articles.
async fn change_prices(broker: MemoryBroker) -> Result<(), BoxError> {
    let (publisher, mut tick) = (broker.publisher(), interval(Duration::from_millis(200)));
    for round in 0_u32.. {
        tick.tick().await;
        for (article, base) in [("tea", 300), ("cake", 500)] {
            let price = Price { article, cents: base + round % 50 };
            publisher.publish_one(PRICES, Message::json(&price)?).await?;
        }
    }
    Ok(())
}

/// The two ways to stop a process politely.
async fn told_to_stop() -> Result<(), Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}
