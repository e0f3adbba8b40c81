//! [`ClaimCheckPublisher`]: puts large payloads into a store.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use super::{Claim, ClaimError, ClaimErrorKind, ClaimStore};
use crate::{
    Message, Publisher,
    error::{PublishError, PublishErrorKind},
    metadata_keys,
    publisher::PublisherCapabilities,
};

/// Publishes messages with large payloads without them: those are put into a store first, and the metadata have the claim
/// (`_watermill_claim`) and the size (`_watermill_claim_bytes`). Other messages pass as they are.
///
/// All payloads of a call are in the store before anything is published; if one cannot be put there, nothing is. What was
/// put there for a call that failed then expires like the rest. Since payloads take their time, calls that are in
/// progress together do not [keep their order](PublisherCapabilities::keeps_order).
#[derive(Clone, Debug)]
pub struct ClaimCheckPublisher<P, S> {
    inner: P,
    store: S,
    above: usize,
    keep_for: Duration,
}

/// What most brokers take, with room for metadata.
const ABOVE: usize = 128 * 1024;

/// How long payloads are kept unless told otherwise.
const KEEP_FOR: Duration = Duration::from_hours(7 * 24);

/// How many payloads of a call are on their way to the store at once.
const PUTTING: usize = 8;

impl<P: Publisher, S: ClaimStore> ClaimCheckPublisher<P, S> {
    /// Puts payloads of more than 128 KiB into `store`, where they are kept for a week.
    pub fn new(inner: P, store: S) -> Self {
        Self { inner, store, above: ABOVE, keep_for: KEEP_FOR }
    }

    /// Sets the largest payload that a message carries itself, in bytes.
    #[must_use]
    pub fn above(mut self, bytes: usize) -> Self {
        self.above = bytes;
        self
    }

    /// Sets how long payloads are kept. It should be longer than the slowest consumer group ever is behind, and than dead
    /// letters wait: a message whose payload has expired can only be rejected.
    #[must_use]
    pub fn keep_for(mut self, keep_for: Duration) -> Self {
        self.keep_for = keep_for;
        self
    }

    async fn check_in(&self, mut message: Message) -> Result<Message, ClaimError> {
        if message.payload().len() <= self.above {
            return Ok(message);
        }
        // A time that no clock reaches is as good as a century.
        let now = SystemTime::now();
        let century = Duration::from_hours(100 * 365 * 24);
        let claim = Claim::until(now + self.keep_for.min(century));
        let payload = message.payload().clone();
        let size = payload.len();
        self.store.put(&claim, payload).await?;
        message.set_payload(Bytes::new());
        message.metadata_mut().insert(metadata_keys::CLAIM, claim.to_string());
        message.metadata_mut().insert(metadata_keys::CLAIM_BYTES, size.to_string());
        Ok(message)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<P: Publisher, S: ClaimStore> Publisher for ClaimCheckPublisher<P, S> {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        let checked = stream::iter(messages).map(|message| self.check_in(message)).buffered(PUTTING);
        let messages = checked.try_collect().await.map_err(|error: ClaimError| {
            let kind = match error.kind() {
                ClaimErrorKind::Unavailable => PublishErrorKind::Unavailable,
                ClaimErrorKind::Lost | ClaimErrorKind::Refused => PublishErrorKind::Refused,
            };
            PublishError::new(kind, topic).because("a payload could not be stored").with_source(error)
        })?;
        self.inner.publish(topic, messages).await
    }

    fn take_back(&self) {
        self.inner.take_back();
    }

    async fn close(&self) -> Result<(), PublishError> {
        self.inner.close().await
    }

    fn capabilities(&self) -> PublisherCapabilities {
        self.inner.capabilities().keeps_order(false)
    }
}
