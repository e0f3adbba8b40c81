//! The forwarder between a scripted source and a recording destination.

mod chaos;
mod failing;
mod forwarding;
mod publisher;
mod stopping;
mod support;
mod unreadable;
