//! [`RandomFail`]: errors by chance, to see what they do.

use std::{
    error::Error,
    fmt,
    future::{Future, Ready, ready},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use futures::future::{Either, MapErr, TryFutureExt};
use tower::{Layer, Service};

use crate::{Message, Outputs, error::BoxError};

/// Fails some messages with [`RandomFailure`] instead of handling them: a test aid.
///
/// Each handler draws its own numbers from the seed, so a run with the same seed and the same
/// messages fails the same ones. Without [`seed`](Self::seed) every process draws others.
///
/// ```
/// use tower::{Layer, ServiceExt, service_fn};
/// use watermill_core::{Message, Outputs, error::BoxError, middleware::RandomFail};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let handler = service_fn(async |_: Message| Ok::<_, BoxError>(Outputs::none()));
/// let always = RandomFail::new(1.0)?.seed(7);
/// assert!(always.layer(handler).oneshot(Message::new("x")).await.is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RandomFail {
    probability: Probability,
}

impl RandomFail {
    /// Fails this part of the messages: 0.1 is one in ten.
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

impl<S> Layer<S> for RandomFail {
    type Service = RandomFailService<S>;

    fn layer(&self, inner: S) -> RandomFailService<S> {
        RandomFailService { inner, sampler: self.probability.sampler() }
    }
}

/// The service that [`RandomFail`] makes. Clones draw from the same sequence.
#[derive(Clone, Debug)]
pub struct RandomFailService<S> {
    inner: S,
    sampler: Sampler,
}

impl<S> Service<Message> for RandomFailService<S>
where
    S: Service<Message, Response = Outputs>,
    S::Error: Into<BoxError>,
    S::Future: Future<Output = Result<Outputs, S::Error>>,
{
    type Response = Outputs;
    type Error = BoxError;
    type Future = Either<Ready<Result<Outputs, BoxError>>, MapErr<S::Future, fn(S::Error) -> BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, message: Message) -> Self::Future {
        if self.sampler.hit() {
            return Either::Left(ready(Err(RandomFailure(()).into())));
        }
        Either::Right(self.inner.call(message).map_err(Into::into))
    }
}

/// The error that [`RandomFail`] makes.
#[derive(Debug)]
pub struct RandomFailure(());

impl fmt::Display for RandomFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("handle the message: a random failure was injected")
    }
}

impl Error for RandomFailure {}

/// A probability that is not within 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InvalidProbability(f64);

impl fmt::Display for InvalidProbability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set up random faults: {} is no probability, it must be within 0 and 1", self.0)
    }
}

impl Error for InvalidProbability {}

#[derive(Clone, Copy, Debug)]
pub(super) struct Probability {
    probability: f64,
    pub(super) seed: Option<u64>,
}

/// A generator that clones share: a clone of its state would draw the same numbers again.
#[derive(Clone, Debug)]
pub(super) struct Sampler {
    probability: f64,
    generator: Arc<Mutex<fastrand::Rng>>,
}

impl Probability {
    pub(super) fn new(probability: f64) -> Result<Self, InvalidProbability> {
        match (0.0..=1.0).contains(&probability) {
            true => Ok(Self { probability, seed: None }),
            false => Err(InvalidProbability(probability)),
        }
    }

    pub(super) fn sampler(&self) -> Sampler {
        let generator = self.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        Sampler { probability: self.probability, generator: Arc::new(Mutex::new(generator)) }
    }
}

impl Sampler {
    pub(super) fn hit(&self) -> bool {
        // Numbers are below one: a probability of one always hits, zero never.
        self.generator.lock().unwrap_or_else(PoisonError::into_inner).f64() < self.probability
    }
}

#[cfg(test)]
mod tests {
    use tower::{ServiceExt, service_fn};

    use super::*;

    async fn failures(layer: &RandomFail, messages: usize) -> Vec<usize> {
        let mut service = layer.layer(service_fn(async |_: Message| Ok::<_, BoxError>(Outputs::none())));
        let mut failed = Vec::new();
        for n in 0..messages {
            // A clone in between, as Retry makes them, must not repeat numbers.
            service = service.clone();
            if service.ready().await.unwrap().call(Message::new("x")).await.is_err() {
                failed.push(n);
            }
        }
        failed
    }

    #[tokio::test]
    async fn the_given_part_fails_and_the_same_seed_fails_the_same() {
        let layer = RandomFail::new(0.3).unwrap().seed(1);
        let first = failures(&layer, 1000).await;
        assert!((250..350).contains(&first.len()), "{}", first.len());
        assert_eq!(failures(&layer, 1000).await, first);
        assert_ne!(failures(&layer.seed(2), 1000).await, first);
    }

    #[tokio::test]
    async fn zero_never_fails_and_one_always_does() {
        assert_eq!(failures(&RandomFail::new(0.0).unwrap(), 100).await.len(), 0);
        assert_eq!(failures(&RandomFail::new(1.0).unwrap(), 100).await.len(), 100);
    }

    #[test]
    fn what_is_no_probability_is_refused() {
        for probability in [-0.1, 1.1, f64::NAN] {
            assert!(RandomFail::new(probability).is_err(), "{probability}");
        }
    }
}
