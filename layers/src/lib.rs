//! Layers of one's own.
//!
//! What watermill's own middleware does, anybody's can do: everything here is written from the public API
//! alone, and its tests hold the API to it. Copy from it.
//!
//! | layer | shows |
//! |---|---|
//! | [`InstantAck`] | settling a delivery ahead of its handler |
//! | [`Deduplicator`] | turning a message away, and work that ends when the delivery is settled |
//! | [`Transactional`] | handing something to the handler, publishing its outputs, and noticing a lost delivery |
//!
//! All have the shape of a tower layer: a type with the settings, the service that it makes, and what happens
//! to one message as an `async fn` in the order in which it happens.

mod deduplicator;
mod instant_ack;
mod transactional;

pub use deduplicator::{Deduplicator, DeduplicatorService};
pub use instant_ack::{InstantAck, InstantAckService};
pub use transactional::{Transactional, TransactionalService, Tx};
