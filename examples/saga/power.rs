//! A power cut, for the test of this example: `POWER_CUT=3` ends the process, without a goodbye, the third time that a handler
//! has done its work and nothing of it is committed yet, or everything is committed and nobody has been told.

use std::{
    future::Future,
    pin::Pin,
    process,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
};

use tower::{Layer, Service};
use watermill_core::{Message, Outputs, error::BoxError};

/// A layer that counts down wherever it is put; of a count that began with 0 nothing comes.
#[derive(Clone)]
pub(crate) struct Power {
    left: Arc<AtomicU32>,
}

/// A service with its socket.
#[derive(Clone)]
pub(crate) struct Powered<S> {
    inner: S,
    power: Power,
}

impl Power {
    pub(crate) fn from_env() -> Result<Self, BoxError> {
        let cut = std::env::var("POWER_CUT").map_or(Ok(0), |cut| cut.parse())?;
        Ok(Self { left: Arc::new(AtomicU32::new(cut)) })
    }

    fn draw(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            process::abort();
        }
    }
}

impl<S> Layer<S> for Power {
    type Service = Powered<S>;

    fn layer(&self, inner: S) -> Powered<S> {
        Powered { inner, power: self.clone() }
    }
}

impl<S> Service<Message> for Powered<S>
where
    S: Service<Message, Response = Outputs, Future: Send + 'static>,
{
    type Response = Outputs;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Outputs, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, message: Message) -> Self::Future {
        let (call, power) = (self.inner.call(message), self.power.clone());
        Box::pin(async move {
            let outputs = call.await;
            power.draw();
            outputs
        })
    }
}
