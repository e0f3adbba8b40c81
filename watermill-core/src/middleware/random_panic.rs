//! [`RandomPanic`]: panics by chance, to see what they do.

use std::task::{Context, Poll};

use tower::{Layer, Service};

use super::random_fail::{InvalidProbability, Probability, Sampler};
use crate::{Message, Outputs};

/// Panics for some messages instead of handling them: a test aid, as [`RandomFail`](super::RandomFail).
///
/// ```
/// use tower::{Layer, ServiceExt, service_fn};
/// use watermill_core::{Message, Outputs, error::BoxError, middleware::{RandomPanic, Recoverer}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let handler = service_fn(async |_: Message| Ok::<_, BoxError>(Outputs::none()));
/// let always = RandomPanic::new(1.0)?.seed(7);
/// assert!(Recoverer::new().layer(always.layer(handler)).oneshot(Message::new("x")).await.is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RandomPanic {
    probability: Probability,
}

impl RandomPanic {
    /// Panics for this part of the messages: 0.1 is one in ten.
    ///
    /// # Errors
    ///
    /// [`InvalidProbability`] when it is not within 0 and 1.
    pub fn new(probability: f64) -> Result<Self, InvalidProbability> {
        Probability::new(probability).map(|probability| Self { probability })
    }

    /// Makes runs repeatable.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.probability.seed = Some(seed);
        self
    }
}

impl<S> Layer<S> for RandomPanic {
    type Service = RandomPanicService<S>;

    fn layer(&self, inner: S) -> RandomPanicService<S> {
        RandomPanicService { inner, sampler: self.probability.sampler() }
    }
}

/// The service that [`RandomPanic`] makes. Clones draw from the same sequence.
#[derive(Clone, Debug)]
pub struct RandomPanicService<S> {
    inner: S,
    sampler: Sampler,
}

impl<S> Service<Message> for RandomPanicService<S>
where
    S: Service<Message, Response = Outputs>,
{
    type Response = Outputs;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    /// # Panics
    ///
    /// By probability: that is what it is for.
    fn call(&mut self, message: Message) -> S::Future {
        assert!(!self.sampler.hit(), "a random panic was injected");
        self.inner.call(message)
    }
}

#[cfg(test)]
mod tests {
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::{error::BoxError, panic::CatchPanic};

    #[tokio::test]
    async fn the_same_seed_panics_for_the_same_messages() {
        async fn panics(layer: &RandomPanic) -> Vec<bool> {
            let handler = service_fn(async |_: Message| Ok::<_, BoxError>(Outputs::none()));
            let mut service = layer.layer(handler);
            let mut panics = Vec::new();
            for _ in 0..40 {
                service.ready().await.unwrap();
                let result = CatchPanic::new(|| service.call(Message::new("x"))).await;
                panics.push(result.is_err());
            }
            panics
        }
        let layer = RandomPanic::new(0.5).unwrap().seed(1);
        let first = panics(&layer).await;
        assert!(first.contains(&true) && first.contains(&false));
        assert_eq!(panics(&layer).await, first);
    }

    #[test]
    fn what_is_no_probability_is_refused() {
        assert!(RandomPanic::new(2.0).is_err());
    }
}
