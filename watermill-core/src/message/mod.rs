//! [`Message`]: what is published and what a handler receives.

mod content;
pub(crate) mod correlation;
pub(crate) mod delay;
mod extensions;
mod handler_info;
mod id;
pub(crate) mod json;
mod metadata;
mod record;
pub(crate) mod spans;
mod tombstone;
pub(crate) mod vector;

pub use delay::DelayError;
pub use extensions::Extensions;
pub use handler_info::HandlerInfo;
pub use id::MessageId;
pub use metadata::Metadata;
pub use record::Record;
pub use spans::{Forwarding, Spans};

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use self::{
    content::{Headers, SharedContent, Slot},
    record::Unread,
};
use crate::settle::DeliveryInfo;

/// An id, ordered metadata, an optional key and an opaque payload.
///
/// A message is cheap to clone: clones share id, key, metadata and payload until one of them is
/// changed. It holds no right
/// to acknowledge anything; that right is a [`Settlement`](crate::Settlement) and travels in a
/// [`Delivery`](crate::Delivery).
///
/// ```
/// use watermill_core::Message;
///
/// let message = Message::new("hello")
///     .with_key("customer-7")
///     .with_metadata("source", "docs");
/// assert_eq!(message.payload(), "hello");
/// assert_eq!(message.metadata().get("source"), Some("docs"));
/// ```
///
/// # Equality
///
/// Two messages are equal when id, key, metadata and payload are; the context (how this copy was
/// delivered, extensions) does not take part. A missing metadata entry differs from an empty one.
#[derive(Clone)]
pub struct Message {
    /// Behind a pointer, as the facts of its delivery are: a message is moved a dozen times between a publisher
    /// and a handler, and kept by whoever may have to deliver it again.
    content: SharedContent,
    context: Context,
}

static NO_METADATA: Metadata = Metadata::new();

/// What belongs to this copy of a message in this process, and never reaches the wire.
#[derive(Clone, Default)]
struct Context {
    delivery: Option<DeliveryInfo>,
    handler: Option<Arc<HandlerInfo>>,
    extensions: Extensions,
}

/// A message as a broker in this process keeps it: without its context, so that what is moved from queue to queue
/// is a pointer.
#[derive(Clone)]
pub(crate) struct Stored(SharedContent);

impl Message {
    /// A message with a fresh [`MessageId`] (UUID version 7), which is made when it is first looked at.
    ///
    /// Made while a handler runs under the [`Correlation`](crate::middleware::Correlation) layer, it
    /// carries the correlation id of the message being handled.
    pub fn new(payload: impl Into<Bytes>) -> Self {
        let content = SharedContent::new(payload.into(), |content| {
            if let Some(metadata) = correlation::metadata() {
                content.headers_mut().metadata = metadata;
            }
        });
        Self { content, context: Context::default() }
    }

    /// A message with the given id, and nothing that was not asked for: what a marshaler uses to
    /// rebuild a message from its native record.
    pub fn with_id(id: impl Into<MessageId>, payload: impl Into<Bytes>) -> Self {
        let content = SharedContent::new(payload.into(), |content| content.id = OnceLock::from(id.into()));
        Self { content, context: Context::default() }
    }

    fn unread(payload: Bytes, record: Arc<Unread<dyn Record>>) -> Self {
        let content = SharedContent::new(payload, |content| content.headers = Slot::Unread(record));
        Self { content, context: Context::default() }
    }

    /// A message whose payload is `value` as JSON.
    ///
    /// # Errors
    ///
    /// What `serde_json` reports when `value` cannot be represented, a map with keys that are not
    /// text for instance.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        json::to_bytes(value).map(Self::new)
    }

    /// Sets the ordering and partition key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Bytes>) -> Self {
        self.headers_mut().key = Some(key.into());
        self
    }

    /// Sets one metadata entry.
    #[must_use]
    pub fn with_metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers_mut().metadata.insert(name, value);
        self
    }

    /// Attaches a typed value that travels inside this process only.
    #[must_use]
    pub fn with_extension<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.context.extensions.insert(value);
        self
    }

    /// The id.
    pub fn id(&self) -> &MessageId {
        self.content.id()
    }

    /// The ordering and partition key. Messages of one key keep their order; every backend carries
    /// it, and so does the forwarder's envelope. An empty key is a key.
    pub fn key(&self) -> Option<&Bytes> {
        self.content.headers()?.key.as_ref()
    }

    /// Sets or removes the key.
    pub fn set_key(&mut self, key: Option<Bytes>) {
        if key.is_some() || self.key().is_some() {
            self.headers_mut().key = key;
        }
    }

    /// The metadata.
    pub fn metadata(&self) -> &Metadata {
        self.content.headers().map_or(&NO_METADATA, |headers| &headers.metadata)
    }

    /// The metadata, to change.
    pub fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.headers_mut().metadata
    }

    /// The payload.
    pub fn payload(&self) -> &Bytes {
        &self.content.payload
    }

    /// Replaces the payload.
    pub fn set_payload(&mut self, payload: impl Into<Bytes>) {
        self.content.make_mut().payload = payload.into();
    }

    /// Reads the payload as JSON.
    ///
    /// # Errors
    ///
    /// What `serde_json` reports when the payload is not the JSON of a `T`.
    pub fn decode_json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.content.payload)
    }

    /// How this copy was delivered; `None` for a message that was made here.
    pub fn delivery(&self) -> Option<&DeliveryInfo> {
        self.context.delivery.as_ref()
    }

    /// Names the delivery that this message was made of, for a publisher that
    /// [commits it with the ack](crate::publisher::PublisherCapabilities::commits_with_ack). A router does it for the
    /// outputs of its handlers.
    #[must_use]
    pub fn with_delivery(mut self, info: DeliveryInfo) -> Self {
        self.set_delivery(info);
        self
    }

    /// The handler this copy was handed to by a [`Router`](crate::Router).
    pub fn handler(&self) -> Option<&HandlerInfo> {
        self.context.handler.as_deref()
    }

    /// The same, to keep beyond the message's life: for errors that name their handler.
    pub(crate) fn handler_shared(&self) -> Option<&Arc<HandlerInfo>> {
        self.context.handler.as_ref()
    }

    /// Names the handler this copy is handed to. A router does it; so does a test of middleware.
    #[must_use]
    pub fn with_handler(mut self, handler: Arc<HandlerInfo>) -> Self {
        self.context.handler = Some(handler);
        self
    }

    /// As [`with_handler`](Self::with_handler), in place: for a layer that names the handler in its outputs, so that a decorator
    /// of the publisher knows whose they are.
    #[inline]
    pub fn set_handler(&mut self, handler: Arc<HandlerInfo>) {
        self.context.handler = Some(handler);
    }

    /// Typed values that travel inside this process only.
    pub fn extensions(&self) -> &Extensions {
        &self.context.extensions
    }

    /// The extensions, to change.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.context.extensions
    }

    /// This message without its context: no delivery info, no handler, no extensions.
    #[must_use]
    pub fn without_context(mut self) -> Self {
        self.clear_context();
        self
    }

    /// As [`without_context`](Self::without_context), in place.
    #[inline]
    pub(crate) fn clear_context(&mut self) {
        // One by one: mostly there is nothing in any of them, and that is then all there is to see.
        self.context.delivery = None;
        self.context.handler = None;
        self.context.extensions = Extensions::default();
    }

    /// Takes the message apart: id, key, metadata, payload. What a marshaler writes.
    pub fn into_parts(self) -> (MessageId, Option<Bytes>, Metadata, Bytes) {
        let id = self.id().clone();
        let (Headers { key, metadata }, payload) = self.content.into_parts();
        (id, key, metadata, payload)
    }

    fn headers_mut(&mut self) -> &mut Headers {
        self.content.make_mut().headers_mut()
    }

    #[inline]
    pub(crate) fn set_delivery(&mut self, info: DeliveryInfo) {
        self.context.delivery = Some(info);
    }

    /// Takes what a broker keeps, and the extensions. The context should have been cleared before, wherever
    /// dropping it could do harm.
    #[inline]
    pub(crate) fn into_stored(self) -> (Stored, Extensions) {
        (Stored(self.content), self.context.extensions)
    }
}

impl Stored {
    /// The message again, without a delivery.
    #[inline]
    pub(crate) fn into_message(self, extensions: Extensions) -> Message {
        Message { content: self.0, context: Context { delivery: None, handler: None, extensions } }
    }

    pub(crate) fn id(&self) -> &MessageId {
        self.0.id()
    }
}

impl Default for Message {
    /// An empty message with an empty id.
    fn default() -> Self {
        Self::with_id("", Bytes::new())
    }
}

impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.content.is_same(&other.content)
            || (self.id() == other.id()
                && self.key() == other.key()
                && self.metadata() == other.metadata()
                && self.payload() == other.payload())
    }
}

impl Eq for Message {}

impl fmt::Debug for Message {
    /// The payload is shown by its length only: payloads do not belong in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", self.id())
            .field("key", &self.key())
            .field("metadata", self.metadata())
            .field("payload_bytes", &self.payload().len())
            .field("delivery", &self.context.delivery)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_metadata_entry_differs_from_an_empty_one() {
        // P1: Go compares values by look-up, so {"a":""} equals {"b":""} there.
        let a = Message::with_id("1", "x").with_metadata("a", "");
        let b = Message::with_id("1", "x").with_metadata("b", "");
        assert_ne!(a, b);
        assert_eq!(a, a.clone());
    }

    #[test]
    fn a_default_message_takes_metadata() {
        // P2 and P7: the zero value of Go's message panics when metadata is set.
        let mut message = Message::default();
        message.metadata_mut().insert("k", "v");
        assert_eq!(message.metadata().get("k"), Some("v"));
    }

    #[test]
    fn clones_share_their_content_until_one_is_changed() {
        let message = Message::new(vec![7; 64]);
        let mut copy = message.clone();
        copy.metadata_mut().insert("k", "v");
        assert_eq!(message.id(), copy.id(), "also when nobody had looked at it before");
        assert!(message.metadata().is_empty());
        assert_eq!(message.payload().as_ptr(), copy.payload().as_ptr(), "the payload is never copied");
    }

    #[test]
    fn a_message_is_moved_in_four_instructions() {
        // Every sixteen bytes are two instructions a move, and there are a dozen moves.
        assert_eq!(size_of::<Message>(), 32);
    }

    #[test]
    fn extensions_do_not_take_part_in_equality_and_can_be_left_behind() {
        let message = Message::with_id("1", "x");
        let extended = message.clone().with_extension(42_u8);
        assert_eq!(message, extended);
        assert_eq!(extended.extensions().get::<u8>(), Some(&42));
        assert_eq!(extended.without_context().extensions().get::<u8>(), None);
    }

    #[test]
    fn debug_shows_no_payload() {
        let text = format!("{:?}", Message::new("secret"));
        assert!(!text.contains("secret"), "{text}");
    }
}
