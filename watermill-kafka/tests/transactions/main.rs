//! Transactions and fencing, which only Apache Kafka can show, and what is on the wire.

mod atomic;
mod fenced;
mod support;
mod wire;
