//! The forwarder between a scripted source and a recording destination.

mod chaos;
mod control;
mod dead_letters;
mod failing;
mod forwarding;
mod publisher;
mod revoked;
mod sharing;
mod stopped;
mod stopping;
mod support;
mod unreadable;
