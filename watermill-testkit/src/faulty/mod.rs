//! [`Faulty`]: a publisher or subscriber whose backend has bad days.

mod publisher;
mod subscriber;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Wraps a publisher or a subscriber and lets faults happen that a real backend has, by chance, from
/// a seed that makes a run repeatable. It breaks no contract: whoever works with it must lose nothing.
///
/// ```
/// use std::time::Duration;
/// use watermill_core::{Message, PublisherExt};
/// use watermill_testkit::{Faults, Faulty, RecordingPublisher};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let recording = RecordingPublisher::new();
/// let faults = Faults::seeded(7).fail_before_send(0.2).fail_after_send(0.2);
/// let publisher = Faulty::new(recording.clone(), faults);
/// for n in 0..100 {
///     while publisher.publish_one("numbers", Message::new(n.to_string())).await.is_err() {}
/// }
/// let failed_after_send = publisher.injected().failed_after_send;
/// assert_eq!(recording.published("numbers").len(), 100 + failed_after_send);
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct Faulty<T> {
    inner: T,
    injector: Arc<Injector>,
}

/// Which faults happen, and how likely. Probabilities lie between 0 and 1; all are 0 to begin with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Faults {
    seed: u64,
    before_send: f64,
    after_send: f64,
    partial: f64,
    delay: f64,
    delay_max: Duration,
    subscribe: f64,
    stream: f64,
    settlement: f64,
}

/// How often which fault has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Injected {
    /// Calls that failed with nothing sent.
    pub failed_before_send: usize,
    /// Calls that failed with everything sent.
    pub failed_after_send: usize,
    /// Calls that failed with a part sent, or perhaps nothing.
    pub partial: usize,
    /// Answers that came late.
    pub delayed: usize,
    /// Subscriptions that failed to begin.
    pub failed_subscribe: usize,
    /// Errors on streams.
    pub stream_errors: usize,
    /// Settlements that the backend never heard of.
    pub lost_settlements: usize,
}

impl<T> Faulty<T> {
    /// Wraps a publisher or a subscriber.
    pub fn new(inner: T, faults: Faults) -> Self {
        let state = Injection {
            faults,
            rng: fastrand::Rng::with_seed(faults.seed),
            stopped: false,
            injected: Injected::default(),
        };
        Self { inner, injector: Arc::new(Injector(Mutex::new(state))) }
    }

    /// No faults from now on, in any clone: the time to check that everything recovers.
    pub fn stop_injecting(&self) {
        self.injector.with(|state| state.stopped = true);
    }

    /// What has happened.
    pub fn injected(&self) -> Injected {
        self.injector.with(|state| state.injected)
    }

    /// What was wrapped.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }
}

impl Faults {
    /// No faults yet; those to be added are drawn from `seed`.
    pub const fn seeded(seed: u64) -> Self {
        Self {
            seed,
            before_send: 0.0,
            after_send: 0.0,
            partial: 0.0,
            delay: 0.0,
            delay_max: Duration::ZERO,
            subscribe: 0.0,
            stream: 0.0,
            settlement: 0.0,
        }
    }

    /// Publish calls that fail with
    /// [`Unavailable`](watermill_core::error::PublishErrorKind::Unavailable), and nothing was sent.
    #[must_use]
    pub const fn fail_before_send(mut self, probability: f64) -> Self {
        self.before_send = probability;
        self
    }

    /// Publish calls that fail with [`Timeout`](watermill_core::error::PublishErrorKind::Timeout),
    /// though everything was sent.
    #[must_use]
    pub const fn fail_after_send(mut self, probability: f64) -> Self {
        self.after_send = probability;
        self
    }

    /// Calls of several messages of which a part is sent: of each key the first ones, so that to publish
    /// again what the error names keeps the order. The publisher does not claim to be atomic then.
    #[must_use]
    pub const fn fail_partially(mut self, probability: f64) -> Self {
        self.partial = probability;
        self
    }

    /// Answers to publish calls that come late, by up to `at_most`.
    #[must_use]
    pub const fn delay(mut self, probability: f64, at_most: Duration) -> Self {
        self.delay = probability;
        self.delay_max = at_most;
        self
    }

    /// Calls of `subscribe` that fail with
    /// [`Unavailable`](watermill_core::error::SubscribeErrorKind::Unavailable).
    #[must_use]
    pub const fn fail_subscribe(mut self, probability: f64) -> Self {
        self.subscribe = probability;
        self
    }

    /// Deliveries before which an error comes on the stream.
    #[must_use]
    pub const fn fail_stream(mut self, probability: f64) -> Self {
        self.stream = probability;
        self
    }

    /// Settlements that are lost on the way: whatever was said, the message is delivered again, and a
    /// confirmation ends with [`Unknown`](watermill_core::error::SettleErrorKind::Unknown).
    #[must_use]
    pub const fn lose_settlements(mut self, probability: f64) -> Self {
        self.settlement = probability;
        self
    }
}

#[derive(Debug)]
struct Injector(Mutex<Injection>);

#[derive(Debug)]
struct Injection {
    faults: Faults,
    rng: fastrand::Rng,
    stopped: bool,
    injected: Injected,
}

impl Injector {
    fn with<R>(&self, change: impl FnOnce(&mut Injection) -> R) -> R {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a fault happens, and counts it.
    fn happens(
        &self,
        probability: impl FnOnce(&Faults) -> f64,
        count: impl FnOnce(&mut Injected) -> &mut usize,
    ) -> bool {
        self.with(|state| {
            let probability = probability(&state.faults);
            // Nothing is drawn for what cannot happen, so that adding one fault leaves the others be.
            let happens = probability > 0.0 && !state.stopped && state.rng.f64() < probability;
            *count(&mut state.injected) += usize::from(happens);
            happens
        })
    }
}
