//! Consume, transform, produce: what is made of a delivery is committed together with the group's position
//! behind it, in one transaction of Kafka.
//!
//! A subscriber and a publisher share a [`Pair`]. A publish call enlists its deliveries in the open
//! transaction: they are to be acked before it is committed. The [driver](driver) opens one transaction
//! after another; when one is due it lets nothing new in, waits until everything enlisted is acked,
//! adds the positions, and commits. When something was nacked, or lost to another member, it aborts, and
//! the partitions that took part are read again from what is committed.

mod driver;
mod open;
mod pair;
mod publisher;
mod refusals;
mod share;

pub use publisher::KafkaExactlyOncePublisher;
