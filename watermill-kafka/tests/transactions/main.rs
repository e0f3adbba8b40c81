//! Transactions and fencing, which only Apache Kafka can show, and what is on the wire.

mod atomic;
mod exactly_once;
mod fenced;
mod support;
mod wire;
