use std::future::Ready;
use std::task::{Context, Poll};

use tower::{Layer, Service};
use watermill_core::{Handler, MemoryBroker, Message, Router, error::BoxError};

struct Mine;

struct MyService<S>(S);

impl<S> Layer<S> for Mine {
    type Service = MyService<S>;

    fn layer(&self, inner: S) -> MyService<S> {
        MyService(inner)
    }
}

impl<S: Service<Message>> Service<Message> for MyService<S> {
    type Response = String;
    type Error = BoxError;
    type Future = Ready<Result<String, BoxError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Message) -> Self::Future {
        unimplemented!()
    }
}

async fn handle() {}

fn main() {
    let broker = MemoryBroker::new();
    let handler = Handler::new("handle", handle).from(broker.subscriber(), "in");
    let _ = Router::new().layer(Mine).add(handler);
}
