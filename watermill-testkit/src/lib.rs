#![doc = include_str!("../README.md")]

pub mod backend;
pub mod collector;
mod names;
pub mod recording;
pub mod scripted;
pub mod suite;
mod wait;

pub use backend::{Backend, Connection, Lack};
pub use collector::Collector;
pub use names::unique;
pub use recording::RecordingPublisher;
pub use scripted::{ScriptedDelivery, ScriptedSubscriber};
pub use wait::patience;
