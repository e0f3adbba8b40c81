#![doc = include_str!("../README.md")]
// What belongs to a feature says so on docs.rs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod attempt;
mod config;
mod confirms;
mod connection;
mod consuming;
mod declare;
mod delays;
mod error;
#[cfg(test)]
mod interop;
mod line;
mod marshaler;
mod publisher;
mod sent;
mod settle;
mod subscriber;
mod tags;
mod topology;

pub use config::{AmqpPublisherConfig, AmqpSubscriberConfig, NackDelays};
pub use publisher::AmqpPublisher;
pub use subscriber::AmqpSubscriber;
pub use topology::{Argument, Exchange, ExchangeKind, Queue, Topology};

/// The backend's short name.
const BACKEND: &str = "amqp";
