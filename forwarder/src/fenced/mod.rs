//! [`FencedForwarder`]: a relay whose destination keeps its checkpoint and fences its predecessors.

mod batch;
mod engine;
mod journal;

use std::{fmt, future::Future, sync::Arc};

use watermill_core::{HandlerInfo, Subscriber, fenced::FencedPublisher};

use crate::{ForwarderConfig, ForwarderError, ForwarderReport, HANDLER};

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
/// let report = FencedForwarder::new(outbox, kafka, "shop-outbox")
///     .config(ForwarderConfig::default().batch_size(1000))
///     .run_until(token.cancelled_owned())
///     .await?;
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
}

impl FencedForwarder {
    /// A forwarder that reads from `subscriber` and publishes to `destination`.
    ///
    /// `name` is what all relays of one forwarder topic, in one source, have in common, and what no other
    /// has: two that share it without reading the same messages fence each other for ever.
    pub fn new(
        subscriber: impl Subscriber + 'static,
        destination: impl FencedPublisher + 'static,
        name: impl Into<String>,
    ) -> Self {
        Self {
            subscriber: Arc::new(subscriber),
            destination: Arc::new(destination),
            name: name.into(),
            config: ForwarderConfig::default(),
        }
    }

    /// Sets the options.
    pub fn config(mut self, config: ForwarderConfig) -> Self {
        self.config = config;
        self
    }

    /// Forwards until `shutdown` is ready, then stops gracefully: the transaction in progress is finished,
    /// and what was published is recorded by the source. What is in hand besides stays in the source.
    ///
    /// # Errors
    ///
    /// [`ForwarderError`] when the configuration cannot work, when the topic cannot be subscribed to, when
    /// the subscription ends by itself or could not be closed properly, when the source has no offsets,
    /// and when a successor has taken over. Start it again to stand by.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future is like killing the process: nothing is lost, and nothing published twice.
    pub async fn run_until(
        self,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<ForwarderReport, ForwarderError> {
        let mut problems = self.config.validate();
        if self.name.is_empty() {
            problems.push("the name is empty: the destination knows a relay by it".to_owned());
        }
        if !problems.is_empty() {
            return Err(ForwarderError::config(&self.config.topic, &problems));
        }
        let backend = self.subscriber.capabilities().backend;
        let handler = HandlerInfo::consumer(HANDLER, backend, &self.config.topic);
        engine::run(&self, Arc::new(handler), shutdown).await
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
