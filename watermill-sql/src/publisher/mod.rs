//! Publishing into both layouts, over a pool or inside the caller's transaction.

mod config;
mod connection;
mod dialect;
mod insert;
mod packet;
mod pool;

pub use config::SqlPublisherConfig;
pub use connection::ConnectionPublisher;
pub(crate) use dialect::InsertDialect;
pub(crate) use insert::{Batch, Over, insert_all, insert_chunks};
pub(crate) use packet::Packet;
pub use pool::SqlPublisher;
