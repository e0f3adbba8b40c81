use std::task::{Context, Poll};

use tower::{Layer, Service};
use watermill_core::{Handler, MemoryBroker, Router};

struct Mine;

struct MyService<S>(S);

impl<S> Layer<S> for Mine {
    type Service = MyService<S>;

    fn layer(&self, inner: S) -> MyService<S> {
        MyService(inner)
    }
}

impl<S: Service<String>> Service<String> for MyService<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: String) -> Self::Future {
        unimplemented!()
    }
}

async fn handle() {}

fn main() {
    let broker = MemoryBroker::new();
    let handler = Handler::new("handle", handle).from(broker.subscriber(), "in").layer(Mine);
    let _ = Router::new().add(handler);
}
