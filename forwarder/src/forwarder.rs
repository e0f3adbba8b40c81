//! [`Forwarder`]: brings messages from the forwarder topic to their destinations.

use std::{fmt, future::Future, sync::Arc};

use futures::{FutureExt, future::BoxFuture};
use tokio_util::sync::CancellationToken;
use watermill_core::{
    HandlerInfo, Publisher, Subscriber, error::ConfigError, message::Spans, subscriber::Shards,
};

use crate::{
    ForwarderConfig, ForwarderControl, ForwarderError, ForwarderReport, HANDLER, relay,
    relay::dead_letters::DeadLetters,
    shards::{self, RunShard},
};

/// Reads envelopes from the forwarder topic and publishes what is in them.
///
/// ```
/// # use std::sync::Arc;
/// # use tokio_util::sync::CancellationToken;
/// # use watermill_core::{Publisher, Subscriber};
/// # use watermill_forwarder::{Forwarder, ForwarderConfig};
/// # async fn run(
/// #     outbox: Arc<dyn Subscriber>, broker: Arc<dyn Publisher>, token: CancellationToken,
/// # ) -> Result<(), Box<dyn std::error::Error>> {
/// let forwarder = Forwarder::builder(outbox, broker)
///     .config(ForwarderConfig::default().batch_size(1000))
///     .build()?;
/// // Beside a router or another forwarder in one process: each is a future of its own.
/// let running = tokio::spawn(forwarder.run_until(token.clone().cancelled_owned()));
/// # token.cancel();
/// let report = running.await??;
/// println!("{} messages forwarded", report.forwarded);
/// # Ok(())
/// # }
/// ```
///
/// It works in batches: what is ready is taken, grouped by destination, and published with one call
/// for each destination, all of them at once, while the next batch is taken. A message is acked when
/// its destination has accepted it. The guarantee is at-least-once: see the
/// [crate's page](crate#what-is-guaranteed).
#[derive(Clone)]
#[must_use = "a forwarder does nothing until it is run"]
pub struct Forwarder {
    pub(crate) subscriber: Arc<dyn Subscriber>,
    pub(crate) publisher: Arc<dyn Publisher>,
    pub(crate) dead_letters: DeadLetters,
    pub(crate) config: ForwarderConfig,
    pub(crate) control: ForwarderControl,
    pub(crate) spans: Option<Arc<dyn Spans>>,
    shards: Option<Arc<dyn Shards>>,
}

/// Puts a [`Forwarder`] together.
#[derive(Clone)]
#[must_use = "a builder does nothing until `build`"]
pub struct ForwarderBuilder {
    subscriber: Arc<dyn Subscriber>,
    publisher: Arc<dyn Publisher>,
    dead_letters: Option<Arc<dyn Publisher>>,
    config: ForwarderConfig,
    spans: Option<Arc<dyn Spans>>,
}

impl Forwarder {
    /// Starts a forwarder that reads from `subscriber` and publishes to `publisher`.
    ///
    /// The consumer group is the subscriber's. All forwarders of one forwarder topic belong to one
    /// group; where the backend lets one member of a group read at a time, the others stand by.
    pub fn builder(
        subscriber: impl Subscriber + 'static,
        publisher: impl Publisher + 'static,
    ) -> ForwarderBuilder {
        ForwarderBuilder {
            subscriber: Arc::new(subscriber),
            publisher: Arc::new(publisher),
            dead_letters: None,
            config: ForwarderConfig::default(),
            spans: None,
        }
    }

    /// The configuration.
    pub fn config(&self) -> &ForwarderConfig {
        &self.config
    }

    /// A handle to stop it, to look at it, and to pause what it sends.
    pub fn control(&self) -> ForwarderControl {
        self.control.clone()
    }

    /// Forwards until `shutdown` is ready, then stops gracefully: nothing more is taken, what is in
    /// hand is published and acked, and the subscription is closed, so that nothing that was forwarded
    /// is forwarded again. Destinations that fail at that moment are not waited for: their messages
    /// stay in the source. The subscriber and the publishers are left open, they may have other users.
    ///
    /// # Errors
    ///
    /// [`ForwarderError`] when the topic cannot be subscribed to, when the subscription ends by
    /// itself, when the publisher is closed, or when the subscription could not be closed properly.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future is like killing the process: no message is lost. What was published and
    /// not yet acked is published again by the next forwarder, at most twice
    /// [`batch_size`](ForwarderConfig::batch_size), and what was blocked.
    pub async fn run_until(
        self,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<ForwarderReport, ForwarderError> {
        match &self.shards {
            None => relay::run(&self, shutdown).await,
            Some(shards) => shards::run(&self, &**shards, (&self.config, &self.control), shutdown).await,
        }
    }
}

impl ForwarderBuilder {
    /// Sets the options.
    pub fn config(mut self, config: ForwarderConfig) -> Self {
        self.config = config;
        self
    }

    /// Sends dead letters to a publisher of theirs, instead of leaving them with the source. What it does not
    /// take goes where they would be without it. Whoever made it closes it, as the other.
    pub fn dead_letters(mut self, publisher: impl Publisher + 'static) -> Self {
        self.dead_letters = Some(Arc::new(publisher));
        self
    }

    /// Has somebody make a span for each call by which messages are published: a bridge to a tracing system, such as
    /// `Traces` of `watermill-telemetry`. Without it there are no such spans.
    pub fn spans(mut self, spans: impl Spans) -> Self {
        self.spans = Some(Arc::new(spans));
        self
    }

    /// Finishes.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with everything that is wrong with the configuration, and when the source has no
    /// [`shards`](ForwarderConfig::shards) that it asks for.
    pub fn build(self) -> Result<Forwarder, ConfigError> {
        let Self { subscriber, publisher, dead_letters, config, spans } = self;
        config.validate()?;
        let handler =
            Arc::new(HandlerInfo::consumer(HANDLER, subscriber.capabilities().backend, &config.topic));
        let last_resort = Some(Arc::clone(&publisher));
        let place = (&*config.dead_letter_topic, config.call_timeout);
        let (dead_letters, subscriber) =
            DeadLetters::arrange(&subscriber, dead_letters, last_resort, &handler, place);
        let control = ForwarderControl::new(&config.topic);
        let shards = shards::of(&subscriber, &config)?;
        Ok(Forwarder { subscriber, publisher, dead_letters, config, control, spans, shards })
    }
}

impl RunShard for Forwarder {
    fn run_shard<'a>(
        &'a self,
        _number: u32,
        subscriber: Arc<dyn Subscriber>,
        control: ForwarderControl,
        shutdown: CancellationToken,
    ) -> BoxFuture<'a, Result<ForwarderReport, ForwarderError>> {
        let forwarder = Self { subscriber, control, shards: None, ..self.clone() };
        async move { relay::run(&forwarder, shutdown.cancelled()).await }.boxed()
    }
}

impl fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarder")
            .field("from", &self.subscriber.capabilities().backend)
            .field("to", &self.publisher.capabilities().backend)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ForwarderBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwarderBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}
