//! How values become payloads: [`Encode`], [`Decode`], and [`JsonCodec`].

use bytes::Bytes;
use futures::future::BoxFuture;
use serde::{Serialize, de::DeserializeOwned};

use crate::{error::BoxError, message::json};

/// A format of payloads. What it can write it says by [`Encode`], and what it can read by [`Decode`].
pub trait Codec: Clone + Send + Sync + 'static {
    /// The media type of what it writes: `application/json`.
    fn content_type(&self) -> &'static str;
}

/// Writes values of type `T`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot write `{T}`",
    note = "`JsonCodec` writes what implements `serde::Serialize`, `ProtobufCodec` what implements `prost::Message`"
)]
pub trait Encode<T>: Codec {
    /// The payload of a value.
    ///
    /// # Errors
    ///
    /// Why it cannot be represented. Trying again does not help.
    fn encode(&self, value: &T) -> Result<Bytes, BoxError>;
}

/// Reads values of type `T`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot read `{T}`",
    note = "`JsonCodec` reads what implements `serde::Deserialize`, `ProtobufCodec` what implements `prost::Message`"
)]
pub trait Decode<T>: Codec {
    /// What has to be fetched before this payload can be read: the schema that it was written with, for instance. `None`, the
    /// default, where nothing has.
    ///
    /// It is waited for within the call of the handler's service. An error of it fails the message as it is: mark what is not the
    /// message's fault with [`Nack`](crate::error::Nack), and what does not get better with
    /// [`Permanent`](crate::error::Permanent).
    ///
    /// # Cancel safety
    ///
    /// The future is dropped with the handler's: what it has fetched so far may be kept, and nothing else.
    fn prepare(&self, payload: &Bytes) -> Option<BoxFuture<'static, Result<(), BoxError>>> {
        let _ = payload;
        None
    }

    /// The value of a payload.
    ///
    /// # Errors
    ///
    /// What is wrong with the payload. The message fails with a [`Permanent`](crate::error::Permanent) error then, unless the error
    /// is a [`Nack`](crate::error::Nack).
    fn decode(&self, payload: &Bytes) -> Result<T, BoxError>;
}

/// JSON, by serde: what Go's `JSONMarshaler` writes and reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JsonCodec;

impl JsonCodec {
    /// The codec.
    pub const fn new() -> Self {
        Self
    }
}

impl Codec for JsonCodec {
    fn content_type(&self) -> &'static str {
        "application/json"
    }
}

impl<T: Serialize> Encode<T> for JsonCodec {
    fn encode(&self, value: &T) -> Result<Bytes, BoxError> {
        Ok(json::to_bytes(value)?)
    }
}

impl<T: DeserializeOwned> Decode<T> for JsonCodec {
    fn decode(&self, payload: &Bytes) -> Result<T, BoxError> {
        Ok(serde_json::from_slice(payload)?)
    }
}
