//! [`Marshaler`]: what a value and its name become on the wire.

use std::sync::Arc;

use serde_json::Value;

use super::{BusError, Codec, Encode, JsonCodec, Named, Names, upcast::Upcasters};
use crate::{Message, Metadata, cloud_events, error::BoxError, metadata_keys};

/// Turns commands and events into messages and back: a codec for payloads, names, and what else is written into the
/// metadata. A bus and a processor that share messages share a marshaler; clones are cheap.
///
/// What it writes is what Go's Watermill writes, unless told otherwise: the payload, and the metadata entry `name`.
#[derive(Clone, Debug)]
pub struct Marshaler<C = JsonCodec> {
    pub(super) codec: C,
    pub(super) shared: Arc<Shared>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Shared {
    pub(super) names: Names,
    pub(super) upcasters: Upcasters,
    writes_content_type: bool,
    /// The source of cloud events, where messages are such.
    source: Option<String>,
}

impl Marshaler {
    /// JSON, as Go's default.
    pub fn json() -> Self {
        Self::new(JsonCodec::new())
    }

    /// As [`upcast`](Self::upcast), for payloads that are nothing but JSON. With another codec, one that puts the number of a schema
    /// in front for instance, `upcast` is given the whole message.
    ///
    /// ```
    /// # use watermill_core::cqrs::{Marshaler, Named};
    /// # struct OrderPlaced;
    /// impl Named for OrderPlaced {
    ///     const NAME: &'static str = "OrderPlaced";
    ///     const VERSION: u32 = 2;
    /// }
    ///
    /// // The first version had no currency.
    /// let marshaler = Marshaler::json().upcast_json::<OrderPlaced>(1, |mut order| {
    ///     order["currency"] = "EUR".into();
    ///     Ok(order)
    /// });
    /// ```
    #[must_use]
    pub fn upcast_json<T: Named>(
        self,
        from: u32,
        upcast: impl Fn(Value) -> Result<Value, BoxError> + Send + Sync + 'static,
    ) -> Self {
        self.upcast::<T>(from, move |mut message| {
            let upcasted = upcast(message.decode_json()?)?;
            message.set_payload(serde_json::to_vec(&upcasted)?);
            Ok(message)
        })
    }
}

impl<C: Codec> Marshaler<C> {
    /// A marshaler with this codec.
    pub fn new(codec: C) -> Self {
        Self { codec, shared: Arc::default() }
    }

    /// What types are called on the wire. By default each by its [`NAME`](Named::NAME).
    #[must_use]
    pub fn names(mut self, names: Names) -> Self {
        self.shared_mut().names = names;
        self
    }

    /// Writes the codec's media type into the metadata entry `content_type`. Off by default. Where a message has such an
    /// entry, it is compared when it is read, in any case.
    #[must_use]
    pub fn write_content_type(mut self) -> Self {
        self.shared_mut().writes_content_type = true;
        self
    }

    /// Writes the attributes of [CloudEvents](https://cloudevents.io) 1.0 into the metadata too: `ce-specversion`,
    /// `ce-id`, `ce-source`, `ce-type`, and `ce-partitionkey` for a key that is text. `source` is a URI reference that
    /// names this service. Off by default.
    #[must_use]
    pub fn cloud_events(mut self, source: impl Into<String>) -> Self {
        self.shared_mut().source = Some(source.into());
        self
    }

    /// How a message of an older version becomes one of the next: messages of `T` whose `schema_version` is `from` (1
    /// where there is none) are passed through `upcast`, and then through that of the version after it, up to
    /// [`T::VERSION`](Named::VERSION).
    #[must_use]
    pub fn upcast<T: Named>(
        mut self,
        from: u32,
        upcast: impl Fn(Message) -> Result<Message, BoxError> + Send + Sync + 'static,
    ) -> Self {
        self.shared_mut().upcasters.add::<T>(from, upcast);
        self
    }

    /// The message of a value.
    ///
    /// # Errors
    ///
    /// [`BusErrorKind::Encode`](super::BusErrorKind::Encode) when the value cannot be written.
    pub fn marshal<T: Named>(&self, value: &T) -> Result<Message, BusError>
    where
        C: Encode<T>,
    {
        self.write(&self.shared.names.of::<T>(), value, &[])
    }

    /// The same, with the name that was looked up already, and with other entries in its metadata.
    pub(crate) fn write<T: Named>(
        &self,
        name: &str,
        value: &T,
        entries: &[(&str, &str)],
    ) -> Result<Message, BusError>
    where
        C: Encode<T>,
    {
        let payload = self.codec.encode(value).map_err(|error| BusError::encode(name, error))?;
        let mut message = Message::new(payload);
        message.set_key(value.key());
        let id = self.shared.source.as_ref().map(|_| message.id().clone());
        let version = (T::VERSION != 1).then(|| T::VERSION.to_string());
        let content_type = self.shared.writes_content_type.then(|| self.codec.content_type());
        let event = self
            .shared
            .source
            .as_deref()
            .zip(id.as_deref())
            .map(|(source, id)| cloud_events::attributes(id, source, name, value_key(&message)));
        // In one piece of memory, with what the message was made with.
        let metadata = Metadata::packed(
            message
                .metadata()
                .iter()
                .chain([(metadata_keys::NAME, name)])
                .chain(version.as_deref().map(|version| (metadata_keys::SCHEMA_VERSION, version)))
                .chain(content_type.map(|content_type| (metadata_keys::CONTENT_TYPE, content_type)))
                .chain(event.into_iter().flatten())
                .chain(entries.iter().copied()),
        );
        *message.metadata_mut() = metadata;
        Ok(message)
    }

    fn shared_mut(&mut self) -> &mut Shared {
        Arc::make_mut(&mut self.shared)
    }
}

/// The key as it can be an attribute; of other bytes none is written.
fn value_key(message: &Message) -> Option<&str> {
    message.key().and_then(|key| str::from_utf8(key).ok()).filter(|key| !key.is_empty())
}

impl Default for Marshaler {
    fn default() -> Self {
        Self::json()
    }
}
