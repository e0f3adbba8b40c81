#![doc = include_str!("README.md")]

mod bus;
mod codec;
mod describe;
mod dispatch;
#[cfg(feature = "asyncapi")]
mod documented;
mod error;
mod function;
mod group;
mod handling;
mod kind;
mod marshaler;
mod named;
mod names;
mod processor;
#[cfg(feature = "protobuf")]
mod protobuf;
mod reader;
mod registered;
mod schema;
mod topics;
mod typed;
pub mod types;
mod unknown;
mod upcast;

pub use bus::{Bus, CommandBus, EventBus, Sending};
pub use codec::{Codec, Decode, Encode, JsonCodec};
pub use describe::Describe;
pub use error::{BusError, BusErrorKind, ReadError, ReadErrorKind};
pub use function::PayloadFn;
pub use group::Group;
pub use kind::{Commands, Events, Kind};
pub use marshaler::Marshaler;
pub use named::Named;
pub use names::Names;
pub use processor::{CommandProcessor, EventProcessor, Processor};
#[cfg(feature = "protobuf")]
pub use protobuf::ProtobufCodec;
pub use registered::{RegisteredCodec, schema_header, schema_id};
pub use schema::{Schema, SchemaKind, SchemaReference, SchemaRegistry};
pub use topics::Topics;
pub use typed::TypedBus;
pub use unknown::UnknownName;
#[cfg(feature = "macros")]
pub use watermill_macros::Named;
