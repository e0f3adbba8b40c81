//! The daemon as a process: what it forwards, what it says, and how it ends.

mod configuration;
mod dead_letters;
mod deployment;
mod forwarding;
mod operating;
#[cfg(feature = "servers")]
mod servers;
mod support;
