//! The daemon as a process: what it forwards, what it says, and how it ends.

mod configuration;
#[cfg(feature = "prometheus")]
mod dashboard;
#[cfg(feature = "servers")]
mod databases;
mod dead_letters;
mod deployment;
mod ending;
mod forwarding;
mod operating;
#[cfg(feature = "servers")]
mod servers;
mod sharding;
mod support;
mod tables;
#[cfg(feature = "http")]
mod webhooks;
