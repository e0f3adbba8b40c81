//! [`FencedForwarder`]: a relay whose destination keeps its checkpoint and fences its predecessors.

mod batch;
mod engine;
mod failures;
mod gather;
mod journal;
#[cfg(test)]
mod model;
mod sending;
mod term;
mod waiting;

use std::{fmt, future::Future, sync::Arc};

use futures::{FutureExt, future::BoxFuture};
use tokio_util::sync::CancellationToken;
use watermill_core::{
    HandlerInfo, Publisher, Subscriber, error::ConfigError, fenced::FencedPublisher, message::Spans,
    subscriber::Shards,
};

use crate::{
    ForwarderConfig, ForwarderControl, ForwarderError, ForwarderReport, HANDLER,
    relay::dead_letters::DeadLetters,
    shards::{self, RunShard},
};

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
/// it is back. What is refused for good is searched for and set aside, a message with what is behind it of its key or
/// a topic that does not exist, and the rest is published without it. A message that is refused for what it is, as
/// in a [`Forwarder`](crate::Forwarder), is dead-lettered after [`attempts`](ForwarderConfig::attempts): by the source,
/// or where that keeps none in the same way as the others are published. Each transaction takes some
/// milliseconds. While one is on its way the next is put together, so that with a backlog each has
/// [several batches](ForwarderConfig::batch_size).
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
    dead_letters: DeadLetters,
    control: ForwarderControl,
    spans: Option<Arc<dyn Spans>>,
    shards: Option<Arc<dyn Shards>>,
}

/// Puts a [`FencedForwarder`] together.
#[derive(Clone)]
#[must_use = "a builder does nothing until `build`"]
pub struct FencedForwarderBuilder {
    subscriber: Arc<dyn Subscriber>,
    destination: Arc<dyn FencedPublisher>,
    name: String,
    dead_letters: Option<Arc<dyn Publisher>>,
    config: ForwarderConfig,
    spans: Option<Arc<dyn Spans>>,
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

    /// Forwards until `shutdown` is ready, then stops gracefully, within
    /// [`drain_timeout`](ForwarderConfig::drain_timeout): the transaction in progress is finished,
    /// and what was published is recorded by the source. What is in hand besides stays in the source. The
    /// subscription is closed; the subscriber and the destination are left open, they may have other users.
    ///
    /// With [`shards`](ForwarderConfig::shards) it does so for each shard, those that are added later included. A successor
    /// takes over a shard at a time: this relay then goes on with its others, and stands by for that one. The number of
    /// shards is asked for again and again; while it is not known, those that there are go on.
    ///
    /// # Errors
    ///
    /// [`ForwarderError`] when the topic cannot be subscribed to, when the subscription ends by itself, when the
    /// destination is closed, when the subscription could not be closed properly, when the source has no offsets, and,
    /// without shards, when a successor has taken over: start it again to stand by. What ends the relay of one shard ends
    /// those of all.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future is like killing the process: nothing is lost, and nothing published twice.
    pub async fn run_until(
        self,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<ForwarderReport, ForwarderError> {
        match &self.shards {
            None => engine::run(&self, shutdown).await,
            Some(shards) => shards::run(&self, &**shards, (&self.config, &self.control), shutdown).await,
        }
    }
}

impl FencedForwarderBuilder {
    /// Sets the options.
    pub fn config(mut self, config: ForwarderConfig) -> Self {
        self.config = config;
        self
    }

    /// Sends dead letters to a publisher of theirs, outside of the transactions, instead of leaving them with the
    /// source. What it does not take goes where they would be without it. Whoever made it closes it.
    pub fn dead_letters(mut self, publisher: impl Publisher + 'static) -> Self {
        self.dead_letters = Some(Arc::new(publisher));
        self
    }

    /// Has somebody make a span for each transaction by which messages are published: a bridge to a tracing system, such as
    /// `Traces` of `watermill-telemetry`. Without it there are no such spans.
    pub fn spans(mut self, spans: impl Spans) -> Self {
        self.spans = Some(Arc::new(spans));
        self
    }

    /// Finishes.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with everything that is wrong with the configuration.
    pub fn build(self) -> Result<FencedForwarder, ConfigError> {
        let Self { subscriber, destination, name, dead_letters, config, spans } = self;
        config
            .check()
            .unless(!name.is_empty(), "name is empty: the destination knows a relay by it")
            .finish()?;
        let handler =
            Arc::new(HandlerInfo::consumer(HANDLER, subscriber.capabilities().backend, &config.topic));
        let place = (&*config.dead_letter_topic, config.call_timeout);
        let (dead_letters, subscriber) =
            DeadLetters::arrange(&subscriber, dead_letters, None, &handler, place);
        let control = ForwarderControl::new(&config.topic);
        let shards = shards::of(&subscriber, &config)?;
        Ok(FencedForwarder {
            subscriber,
            destination,
            name,
            config,
            handler,
            dead_letters,
            control,
            spans,
            shards,
        })
    }
}

impl RunShard for FencedForwarder {
    /// The destination knows each shard by a name of its own, and the first by that which it had before there were shards: what
    /// that has published and not recorded is the first's.
    fn run_shard<'a>(
        &'a self,
        number: u32,
        subscriber: Arc<dyn Subscriber>,
        control: ForwarderControl,
        shutdown: CancellationToken,
    ) -> BoxFuture<'a, Result<ForwarderReport, ForwarderError>> {
        let name = match number {
            0 => self.name.clone(),
            number => format!("{}#{number}", self.name),
        };
        let forwarder = Self { subscriber, name, control, shards: None, ..self.clone() };
        async move { engine::run(&forwarder, shutdown.cancelled()).await }.boxed()
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
