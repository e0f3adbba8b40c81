//! Transactions: messages that are published all or nothing, by one producer of a name at a time.

mod checkpoint;
mod exactly_once;
mod fenced;
mod producer;
mod publisher;

pub use exactly_once::KafkaExactlyOncePublisher;
pub use fenced::KafkaFencedPublisher;
pub use publisher::KafkaTransactionalPublisher;
