use std::{pin::Pin, rc::Rc};
use std::task::{Context, Poll};

use tower::{Layer, Service};
use watermill_core::{Handler, MemoryBroker, Message, Outputs, Router, error::BoxError};

struct Mine;

struct MyService<S>(S);

impl<S> Layer<S> for Mine {
    type Service = MyService<S>;

    fn layer(&self, inner: S) -> MyService<S> {
        MyService(inner)
    }
}

struct MyFuture(Rc<u64>);

impl Future for MyFuture {
    type Output = Result<Outputs, BoxError>;

    fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Self::Output> {
        unimplemented!()
    }
}

impl<S: Service<Message>> Service<Message> for MyService<S> {
    type Response = Outputs;
    type Error = BoxError;
    type Future = MyFuture;

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
    let handler = Handler::new("handle", handle).from(broker.subscriber(), "in").layer(Mine);
    let _ = Router::new().add(handler);
}
