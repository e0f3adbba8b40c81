#![doc = include_str!("../README.md")]

pub mod allocations;
pub mod backend;
pub mod collector;
pub mod faulty;
pub mod figures;
pub mod handler_test;
mod log_lines;
mod names;
mod private_server;
pub mod prometheus;
pub mod recording;
pub mod scripted;
pub mod services;
pub mod suite;
mod wait;
pub mod workload;

pub use backend::{Backend, Connection, Lack, Limits};
pub use collector::Collector;
pub use faulty::{Faults, Faulty};
pub use figures::{Figure, Figures, Limit};
pub use handler_test::{Handled, HandlerTest};
pub use log_lines::{LogLine, LogLines};
pub use names::unique;
pub use private_server::PrivateServer;
pub use recording::RecordingPublisher;
pub use scripted::{ScriptedDelivery, ScriptedSubscriber};
pub use services::Service;
pub use wait::{patience, with_patience};
