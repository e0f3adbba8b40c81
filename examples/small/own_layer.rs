//! Middleware of one's own: a tower layer around a handler. It sees each message before the handler does, and what became of it
//! afterwards; it may change either, or not call the handler at all.
//!
//! ```sh
//! cargo run --bin own_layer
//! ```

use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tower::{Layer, Service};
use watermill_core::{
    Handler, MemoryBroker, Message, Outputs, PublisherExt as _, Router, error::BoxError, router::Phase,
};

/// Writes a name into every output.
#[derive(Clone, Copy)]
struct SignedBy(&'static str);

impl<S> Layer<S> for SignedBy {
    type Service = SignedByService<S>;

    fn layer(&self, inner: S) -> SignedByService<S> {
        SignedByService { inner, by: self.0 }
    }
}

#[derive(Clone)]
struct SignedByService<S> {
    inner: S,
    by: &'static str,
}

impl<S> Service<Message> for SignedByService<S>
where
    S: Service<Message, Response = Outputs>,
    S::Future: Send + 'static,
{
    type Response = Outputs;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Outputs, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, message: Message) -> Self::Future {
        let (handled, by) = (self.inner.call(message), self.by);
        Box::pin(async move {
            let mut outputs = handled.await?;
            for output in outputs.iter_mut() {
                output.metadata_mut().insert("signed_by", by);
            }
            Ok(outputs)
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let broker = MemoryBroker::new();
    let router = Router::new()
        .layer(SignedBy("billing")) // around every handler
        .add(
            Handler::new("bill", async |order: Message| Message::new(order.payload().clone()))
                .from(broker.subscriber(), "orders")
                .to(broker.publisher(), "invoices"),
        )
        .add(
            Handler::new("show", async |invoice: Message| {
                println!("signed by {}", invoice.metadata().get("signed_by").unwrap_or("nobody"));
            })
            .from(broker.subscriber(), "invoices"),
        );
    let control = router.control();
    let running = tokio::spawn(router.run());
    control.reached(Phase::Running).await;

    for _ in 0..3 {
        broker.publisher().publish_one("orders", Message::new("tea")).await?;
    }
    // What was accepted is handled before the router ends.
    while control.handler("show").is_some_and(|show| show.counts.acked < 3) {
        tokio::task::yield_now().await;
    }
    control.stop();
    running.await??;
    Ok(())
}
