//! [`ReplayLog`]: what can be replayed.

use std::time::SystemTime;

use async_trait::async_trait;

use super::ReplayRange;
use crate::{
    Message,
    error::{BoxError, SubscribeError},
};

/// A log that is read at any place without a consumer group, so that no group's position changes. A backend that cannot
/// do so does not implement it.
#[async_trait]
pub trait ReplayLog: Send + Sync {
    /// The backend's short name.
    fn backend(&self) -> &'static str;

    /// Where the range is in each partition of a topic, as the log is now: never beyond its end.
    ///
    /// # Errors
    ///
    /// [`Topic`](crate::error::SubscribeErrorKind::Topic) where there is no such log,
    /// [`Unsupported`](crate::error::SubscribeErrorKind::Unsupported) for a range that it has no way to find.
    async fn locate(&self, topic: &str, range: &ReplayRange) -> Result<Vec<ReplayPart>, SubscribeError>;

    /// The next messages of a part from its beginning on, in their order: `limit` at most, and no more than about 16 MiB, but
    /// one however large it is. None: there are no more.
    ///
    /// # Cancel safety
    ///
    /// It changes nothing, and is dropped when the subscription ends.
    async fn read(
        &self,
        topic: &str,
        part: &ReplayPart,
        limit: usize,
    ) -> Result<Vec<ReplayMessage>, SubscribeError>;
}

/// What is replayed of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayPart {
    /// The partition; 0 where there are none.
    pub partition: u32,
    /// The offset of the first message, or before it.
    pub from: u64,
    /// The offset behind the last one, or more.
    pub until: u64,
}

/// A message of a log.
#[derive(Debug)]
pub struct ReplayMessage {
    /// Where it is.
    pub offset: u64,
    /// When it was published, by the server's clock.
    pub published_at: Option<SystemTime>,
    /// The message, or why what is there is none.
    pub message: Result<Message, BoxError>,
}
