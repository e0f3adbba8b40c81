//! Publishing that the database fences: batches, each with a checkpoint in its transaction.

mod dialect;
mod publisher;
mod term;

pub(crate) use dialect::{FencedDialect, Held};
pub use publisher::SqlFencedPublisher;
