//! The daemon as a process: what it forwards, what it says, and how it ends.

mod configuration;
mod deployment;
mod forwarding;
mod operating;
mod support;
