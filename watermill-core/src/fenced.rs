//! Publishing that the destination itself fences: a batch and a checkpoint together, or neither.
//!
//! A lease in the source cannot stop a publisher that was paused after it had taken a batch: when it
//! wakes up it still publishes. Where the destination can keep a checkpoint in the same transaction as
//! the messages, and refuse whoever has been succeeded, nothing is published twice.

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Message, error::PublishError};

/// A destination that lets one publisher of a name publish at a time.
///
/// # Contract
///
/// 1. **One term at a time.** [`begin`](Self::begin) ends every earlier term of that name, in any process,
///    and what it had not committed: when `begin` has returned, nothing of an earlier term is accepted
///    any more, and everything that was is covered by the checkpoint.
/// 2. **Names are independent** of each other.
#[async_trait]
pub trait FencedPublisher: Send + Sync {
    /// Begins a term.
    ///
    /// # Errors
    ///
    /// [`PublishError`]; its topic is the name. Earlier terms may have been ended all the same.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may have ended the earlier terms. Nothing is published.
    async fn begin(&self, name: &str) -> Result<Box<dyn Term>, PublishError>;

    /// The backend's short name: `kafka`.
    fn backend(&self) -> &'static str;
}

/// The time from a [`FencedPublisher::begin`] to the next.
///
/// # Contract
///
/// 3. **All or nothing.** A commit publishes all its messages, to all their topics, and stores its
///    checkpoint, or nothing of it. Readers that read what is committed see no part.
/// 4. **Order.** Messages of a topic and key keep their order, within a commit and from one to the next.
/// 5. **After an error the term is over**; begin another, or leave it to a successor. An error of kind
///    [`Timeout`](crate::error::PublishErrorKind::Timeout) or
///    [`Fenced`](crate::error::PublishErrorKind::Fenced) leaves open whether the commit has happened, and the next
///    term's checkpoint tells. After one of any other kind it has not.
/// 6. **Fenced is said.** A term that was succeeded fails with
///    [`Fenced`](crate::error::PublishErrorKind::Fenced), and with nothing else once it has been told.
#[async_trait]
pub trait Term: Send {
    /// The checkpoint of the last commit of this name when the term began; none before the first.
    fn checkpoint(&self) -> Option<&Bytes>;

    /// Publishes messages to their topics, in the order given, together with a checkpoint, which replaces
    /// the one before.
    ///
    /// # Errors
    ///
    /// [`PublishError`]; see the contract for what became of the messages. Where it says which were
    /// [not accepted](PublishError::not_accepted), those are the ones at fault, counted through all topics in the order
    /// given; nothing of the others was published either.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it is as after a timeout: the commit may have happened or still happen, and the term is
    /// over.
    async fn commit(&mut self, batch: Vec<Outgoing>, checkpoint: Bytes) -> Result<(), PublishError>;
}

/// Messages for one topic.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Where they go.
    pub topic: String,
    /// The messages, in order.
    pub messages: Vec<Message>,
}

#[cfg(test)]
fn _object_safe(_: &dyn FencedPublisher, _: &dyn Term) {}
