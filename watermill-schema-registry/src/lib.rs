// Its example needs the feature.
#![cfg_attr(feature = "avro", doc = include_str!("../README.md"))]
#![cfg_attr(not(feature = "avro"), doc = "Confluent's schema registry for watermill's commands and events.")]

#[cfg(feature = "avro")]
mod avro;
mod bounded;
mod cache;
mod call;
mod client;
mod config;
mod error;
#[cfg(feature = "schemars")]
mod json_schema;
mod wire;

#[cfg(feature = "avro")]
pub use avro::AvroCodec;
pub use client::SchemaRegistryClient;
pub use config::SchemaRegistryConfig;
pub use error::{RegistryError, RegistryErrorKind};
#[cfg(feature = "schemars")]
pub use json_schema::json_schema;
pub use wire::{Compatibility, RegisteredSchema};
