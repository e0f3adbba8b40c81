//! [`FencedForwarder`]: a relay whose destination keeps its checkpoint and fences its predecessors.

mod batch;
mod engine;
mod journal;

use std::{fmt, future::Future, sync::Arc};

use watermill_core::{HandlerInfo, Subscriber, error::ConfigError, fenced::FencedPublisher};

use crate::{ForwarderConfig, ForwarderControl, ForwarderError, ForwarderReport, HANDLER};

/// Reads envelopes from the forwarder topic and publishes what is in them, each batch in one transaction of
/// the destination, together with a checkpoint.
///
/// ```
/// # use tokio_util::sync::CancellationToken;
/// # use watermill_core::{Subscriber, fenced::FencedPublisher};
/// # use watermill_forwarder::{FencedForwarder, ForwarderConfig};
/// # async fn run(
/// #     outbox: impl Subscriber + 'static, kafka: impl FencedPublisher + 'static, token: CancellationToken,
/// # ) -> Result<(), Box<dyn std::error::Error>> {
/// let forwarder = FencedForwarder::builder(outbox, kafka, "shop-outbox")
///     .config(ForwarderConfig::default().batch_size(1000))
///     .build()?;
/// let report = forwarder.run_until(token.cancelled_owned()).await?;
/// println!("{} messages forwarded", report.forwarded);
/// # Ok(())
/// # }
/// ```
///
/// # What is guaranteed
///
/// A message is published once for readers of what is committed, and in order, whatever dies: a relay in
/// the middle of a batch, its machine, the source or the destination. A relay that was paused and
/// wakes up after another has taken its place publishes nothing; it ends with
/// [`Fenced`](crate::ForwarderErrorKind::Fenced).
///
/// The checkpoint names what was published and is not yet known to be recorded by the source; when the
/// source delivers such a message again, it is acked and not published. It is known by its partition,
/// its offset and its id, so the source must have offsets (SQL and Kafka do). A source that loses its own
/// rows and writes them again, or a destination that loses its checkpoints, makes duplicates.
///
/// # One transaction for all
///
/// Whatever is in a batch is published together, so a destination that is away holds everything up until
/// it is back: [`attempts`](ForwarderConfig::attempts) and [`max_blocked`](ForwarderConfig::max_blocked) are not
/// used. A message that is refused for good is searched for, and sent to the dead-letter topic in the
/// same way as the others. Each transaction takes some milliseconds: let a batch be large.
///
/// Relays that stand by may run: one begins to publish when the source first hands it a message.
#[derive(Clone)]
#[must_use = "a forwarder does nothing until it is run"]
pub struct FencedForwarder {
    subscriber: Arc<dyn Subscriber>,
    destination: Arc<dyn FencedPublisher>,
    /// What the destination knows this relay by.
    name: String,
    config: ForwarderConfig,
    handler: Arc<HandlerInfo>,
    control: ForwarderControl,
}

/// Puts a [`FencedForwarder`] together.
#[derive(Clone)]
#[must_use = "a builder does nothing until `build`"]
pub struct FencedForwarderBuilder {
    subscriber: Arc<dyn Subscriber>,
    destination: Arc<dyn FencedPublisher>,
    name: String,
    config: ForwarderConfig,
}

impl FencedForwarder {
    /// Starts a forwarder that reads from `subscriber` and publishes to `destination`.
    ///
    /// The consumer group is the subscriber's. `name` is what all relays of one forwarder topic, in one source, have
    /// in common, and what no other has: two that share it without reading the same messages fence each other
    /// for ever.
    pub fn builder(
        subscriber: impl Subscriber + 'static,
        destination: impl FencedPublisher + 'static,
        name: impl Into<String>,
    ) -> FencedForwarderBuilder {
        FencedForwarderBuilder {
            subscriber: Arc::new(subscriber),
            destination: Arc::new(destination),
            name: name.into(),
            config: ForwarderConfig::default(),
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

    /// Forwards until `shutdown` is ready, then stops gracefully: the transaction in progress is finished,
    /// within the `drain_timeout`, and what was published is recorded by the source. What is in hand besides stays in
    /// the source. The
    /// subscription is closed; the subscriber and the destination are left open, they may have other users.
    ///
    /// # Errors
    ///
    /// [`ForwarderError`] when the topic cannot be subscribed to, when the subscription ends by itself, when the
    /// destination is closed, when the subscription could not be closed properly, when the source has no offsets, and
    /// when a successor has taken over. Start it again to stand by.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future is like killing the process: nothing is lost, and nothing published twice.
    pub async fn run_until(
        self,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<ForwarderReport, ForwarderError> {
        engine::run(&self, shutdown).await
    }
}

impl FencedForwarderBuilder {
    /// Sets the options.
    pub fn config(mut self, config: ForwarderConfig) -> Self {
        self.config = config;
        self
    }

    /// Finishes.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with everything that is wrong with the configuration.
    pub fn build(self) -> Result<FencedForwarder, ConfigError> {
        let Self { subscriber, destination, name, config } = self;
        config
            .check()
            .unless(!name.is_empty(), "name is empty: the destination knows a relay by it")
            .finish()?;
        let handler = HandlerInfo::consumer(HANDLER, subscriber.capabilities().backend, &config.topic);
        let control = ForwarderControl::new(&config.topic);
        Ok(FencedForwarder { subscriber, destination, name, config, handler: Arc::new(handler), control })
    }
}

impl fmt::Debug for FencedForwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FencedForwarder")
            .field("name", &self.name)
            .field("from", &self.subscriber.capabilities().backend)
            .field("to", &self.destination.backend())
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for FencedForwarderBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FencedForwarderBuilder")
            .field("name", &self.name)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
