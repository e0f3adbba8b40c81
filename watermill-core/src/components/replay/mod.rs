//! [`Replay`]: a part of a log once more.

mod log;
mod memory;
mod progress;
mod reading;

pub use log::{ReplayLog, ReplayMessage, ReplayPart};

use std::{fmt, sync::Arc, time::SystemTime};

use async_trait::async_trait;

use self::{progress::Progress, reading::Reading};
use crate::{
    Subscriber, Subscription,
    backend::{ByPosition, Registry, Shared},
    error::{SubscribeError, SubscribeErrorKind},
    subscriber::{Ordering, SubscriberCapabilities},
    subscription::SubscriptionStatus,
};

/// A subscriber of a part of a log, from one offset or time to another, whoever has read it before: to build an index anew,
/// or to handle once more what a mistake has spoilt. It has no consumer group and changes no group's position.
///
/// By default it begins with the oldest message that there is. It ends at the end that the log has when the subscription
/// begins, or before. A time is a place too: that of the first message that was published then or later. What retention has
/// removed is not there any more.
///
/// When every message of the part is acked or rejected, the replay is [done](Self::done), and its subscription is quiet.
/// Nothing is remembered of a replay that is broken off: the next one begins where this one began. A rejected message is
/// passed with an error in the log, unless the handler's failure policy has another place for it; what cannot be read as a
/// message is passed with an error on the stream. In a partition messages come in their order, and so do those that are
/// nacked. Of each partition no more than 1,000 messages are in memory, and no more than two looks at the log of 16 MiB.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use watermill_core::{Handler, Json, Router, components::{Replay, ReplayLog}, router::RunError};
///
/// async fn index(_: Json<u32>) {}
///
/// /// `log` is a `MemoryBroker` with a history, an `SqlStatus` or a `KafkaStatus`.
/// async fn index_yesterday(log: impl ReplayLog + 'static) -> Result<(), RunError> {
///     let day = Duration::from_secs(24 * 3600);
///     let replay = Replay::new(log).from_time(SystemTime::now() - day);
///     let done = replay.done();
///     Router::new().add(Handler::new("index", index).from(replay, "orders")).run_until(done).await?;
///     Ok(())
/// }
/// ```
#[must_use = "a replay does nothing until it is subscribed to"]
pub struct Replay<L> {
    log: Arc<L>,
    range: ReplayRange,
    partition: Option<u32>,
    open: Registry<Shared<ByPosition>>,
    progress: Arc<Progress>,
}

/// Which part of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplayRange {
    /// Where it begins. Default: with the oldest message.
    pub from: Option<ReplayPlace>,
    /// The place behind its last message. Default: the end that the log has now.
    pub until: Option<ReplayPlace>,
}

/// A place in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayPlace {
    /// At this offset, of every partition.
    Offset(u64),
    /// At the first message that was published then or later.
    Time(SystemTime),
}

impl<L: ReplayLog + 'static> Replay<L> {
    /// A replay of everything that there is.
    pub fn new(log: L) -> Self {
        let (range, open, progress) = Default::default();
        Self { log: Arc::new(log), range, partition: None, open, progress }
    }

    /// Begins with the message at this offset, of every partition.
    pub fn from_offset(mut self, offset: u64) -> Self {
        self.range.from = Some(ReplayPlace::Offset(offset));
        self
    }

    /// Begins with the first message that was published then or later.
    pub fn from_time(mut self, time: SystemTime) -> Self {
        self.range.from = Some(ReplayPlace::Time(time));
        self
    }

    /// Ends before the message at this offset, of every partition.
    pub fn until_offset(mut self, offset: u64) -> Self {
        self.range.until = Some(ReplayPlace::Offset(offset));
        self
    }

    /// Ends before the first message that was published then or later.
    pub fn until_time(mut self, time: SystemTime) -> Self {
        self.range.until = Some(ReplayPlace::Time(time));
        self
    }

    /// Has one partition alone: where there are several, an offset is that of one as a rule. By default, all of them.
    pub fn partition(mut self, partition: u32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Waits until there is a subscription, and each that there is has replayed everything: for
    /// [`Router::run_until`](crate::Router::run_until), with a replay for each handler, or for
    /// [`take_until`](futures::StreamExt::take_until) on the subscription. For ever, if none comes.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost by dropping it.
    pub fn done(&self) -> impl Future<Output = ()> + Send + 'static + use<L> {
        self.progress.clone().done()
    }

    async fn parts(&self, topic: &str) -> Result<Vec<ReplayPart>, SubscribeError> {
        let mut parts = self.log.locate(topic, &self.range).await?;
        let Some(wanted) = self.partition else { return Ok(parts) };
        parts.retain(|part| part.partition == wanted);
        if parts.is_empty() {
            let detail = format!("there is no partition {wanted}");
            return Err(SubscribeError::new(SubscribeErrorKind::Topic, topic).because(detail));
        }
        Ok(parts)
    }
}

#[async_trait]
impl<L: ReplayLog + 'static> Subscriber for Replay<L> {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        self.open.check(topic)?;
        let parts = self.parts(topic).await?;
        let shared = Arc::new(reading::shared(topic));
        let (log, progress) = (self.log.clone(), self.progress.begin());
        self.open.start(self.log.backend(), shared, |shared, origin| {
            Reading::new(log, shared, origin, parts, progress).run()
        })
    }

    /// There is nothing to make.
    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        self.open.check(topic)
    }

    fn in_group(&self, _group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        let detail = "a replay has no consumer group: every subscription receives everything";
        Err(SubscribeError::new(SubscribeErrorKind::Unsupported, "").because(detail))
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        self.open.close().await
    }

    fn status(&self) -> Vec<SubscriptionStatus> {
        self.open.status()
    }

    fn capabilities(&self) -> SubscriberCapabilities {
        SubscriberCapabilities::new(self.log.backend())
            .ordering(Ordering::Scoped)
            .attempts(true)
            .nack_delay(true)
    }
}

impl<L> fmt::Debug for Replay<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay")
            .field("range", &self.range)
            .field("partition", &self.partition)
            .finish_non_exhaustive()
    }
}
