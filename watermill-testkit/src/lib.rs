#![doc = include_str!("../README.md")]

pub mod recording;
pub mod scripted;
mod wait;

pub use recording::RecordingPublisher;
pub use scripted::{ScriptedDelivery, ScriptedSubscriber};
pub use wait::patience;
