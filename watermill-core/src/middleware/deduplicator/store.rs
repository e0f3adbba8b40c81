//! [`DeduplicationStore`]: where marks are kept.

use std::sync::Arc;

use async_trait::async_trait;

use crate::error::BoxError;

/// What a message is told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeduplicationKey<'a> {
    /// Within which keys are compared: a handler (`handler:bill`) or a topic (`topic:orders`).
    pub scope: &'a str,
    /// The key; never empty.
    pub key: &'a str,
}

/// Remembers which keys are done, for as long as it does: a window in memory, a table.
///
/// # Contract
///
/// 1. Of calls with equal keys, only one gets [`Reserved::New`] until that reservation is gone.
/// 2. A key that was committed is [`Reserved::Duplicate`] while it is remembered.
/// 3. When a key cannot be looked up the call fails: it is neither new nor a duplicate then. The message is
///    given back and comes again, unless the error is [`Permanent`](crate::error::Permanent): a key that can
///    never be looked up.
/// 4. Memory, or the table, is bounded.
///
/// # Cancel safety
///
/// A dropped `reserve` future leaves no reservation behind, or one that ends by itself.
#[async_trait]
pub trait DeduplicationStore: Send + Sync {
    /// Reserves a key, if nobody has.
    async fn reserve(&self, key: DeduplicationKey<'_>) -> Result<Reserved, BoxError>;
}

/// What is known of a key.
pub enum Reserved {
    /// Nothing: it is the caller's now.
    New(Box<dyn Reservation>),
    /// It was committed before.
    Duplicate,
    /// Somebody else has reserved it.
    InProgress,
}

/// A key that is reserved. Dropped, it is free again.
pub trait Reservation: Send {
    /// Marks the key as done. It never blocks and never panics, being called while a delivery is
    /// settled; a store that writes to disk does so in the background, in bounded memory, and counts
    /// the key as reserved meanwhile.
    fn commit(self: Box<Self>);
}

#[async_trait]
impl<S: DeduplicationStore + ?Sized> DeduplicationStore for Arc<S> {
    async fn reserve(&self, key: DeduplicationKey<'_>) -> Result<Reserved, BoxError> {
        (**self).reserve(key).await
    }
}
