//! Publishing that the destination itself fences: a batch and a checkpoint together, or neither.
//!
//! A lease in the source cannot stop a publisher that was paused after it had taken a batch: when it
//! wakes up it still publishes. Where the destination can keep a checkpoint in the same transaction as
//! the messages, and refuse whoever has been succeeded, nothing is published twice.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};

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
/// 5. **One commit after another.** What comes next may be [published](Self::publish) while a commit is on its way, and is
///    committed after that has succeeded, or never.
/// 6. **After an error the term is over**; begin another, or leave it to a successor. An error of kind
///    [`Timeout`](crate::error::PublishErrorKind::Timeout) or
///    [`Fenced`](crate::error::PublishErrorKind::Fenced) leaves open whether the commit has happened, and the next
///    term's checkpoint tells. After one of any other kind it has not. Where publishing has failed, a commit that was on its way
///    goes on.
/// 7. **Fenced is said.** A term that was succeeded fails with
///    [`Fenced`](crate::error::PublishErrorKind::Fenced), and with nothing else once it has been told.
#[async_trait]
pub trait Term: Send {
    /// The checkpoint of the last commit of this name when the term began; none before the first.
    fn checkpoint(&self) -> Option<&Bytes>;

    /// Publishes messages to their topics, in the order given, together with a checkpoint, which replaces
    /// the one before. Nothing of it counts before the [`Commit`] that is returned has succeeded.
    ///
    /// It is called again when every commit before the last one has ended: one is on its way while the next is published.
    ///
    /// # Errors
    ///
    /// [`PublishError`]; see the contract for what became of the messages. Where it says which were
    /// [not accepted](PublishError::not_accepted), those are the ones at fault, counted through all topics in the order
    /// given; nothing of the others was published either.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it is as after a timeout: the commit may have happened or still happen, where publishing is all there is to it,
    /// and the term is over.
    async fn publish(&mut self, batch: Vec<Outgoing>, checkpoint: Bytes) -> Result<Commit, PublishError>;

    /// Publishes and commits.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish).
    ///
    /// # Cancel safety
    ///
    /// Dropped, it is as after a timeout: the commit may have happened or still happen, and the term is
    /// over.
    async fn commit(&mut self, batch: Vec<Outgoing>, checkpoint: Bytes) -> Result<(), PublishError> {
        self.publish(batch, checkpoint).await?.ended().await
    }
}

/// The end of what was [published](Term::publish) in a term.
#[must_use = "nothing is committed before it is awaited"]
pub struct Commit(BoxFuture<'static, Result<(), PublishError>>);

impl Commit {
    /// One that is awaited. It must refuse to commit where an earlier one has not succeeded.
    pub fn new(commit: impl Future<Output = Result<(), PublishError>> + Send + 'static) -> Self {
        Self(commit.boxed())
    }

    /// One that happened while it was published: for destinations where nothing is gained by doing it apart.
    pub fn done() -> Self {
        Self::new(std::future::ready(Ok(())))
    }

    /// Commits, and waits for the end of it.
    ///
    /// # Errors
    ///
    /// [`PublishError`]; see the contract of [`Term`].
    ///
    /// # Cancel safety
    ///
    /// Dropped before it was polled, nothing is committed; later, it is as after a timeout. The term is over.
    pub async fn ended(self) -> Result<(), PublishError> {
        self.0.await
    }
}

impl fmt::Debug for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commit").finish_non_exhaustive()
    }
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
