//! [`Counted`]: a destination that counts what it has accepted.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;
use watermill_core::{
    Message, Publisher,
    error::PublishError,
    fenced::{Commit, FencedPublisher, Outgoing, Term},
    publisher::PublisherCapabilities,
};

/// How many messages were accepted.
#[derive(Clone, Default)]
pub(crate) struct Tally(Arc<Accepted>);

#[derive(Default)]
struct Accepted {
    count: AtomicUsize,
    more: Notify,
}

pub(crate) struct Counted<P> {
    inner: P,
    tally: Tally,
}

struct CountedTerm {
    inner: Box<dyn Term>,
    tally: Tally,
}

impl Tally {
    pub(crate) fn of<P>(&self, inner: P) -> Counted<P> {
        Counted { inner, tally: self.clone() }
    }

    /// Waits until so many were accepted.
    pub(crate) async fn reaches(self, count: usize) {
        loop {
            let more = self.0.more.notified();
            if self.0.count.load(Ordering::Acquire) >= count {
                return;
            }
            more.await;
        }
    }

    fn add(&self, count: usize) {
        self.0.count.fetch_add(count, Ordering::AcqRel);
        // There is one that waits, and it may be about to.
        self.0.more.notify_one();
    }
}

#[async_trait]
impl<P: Publisher> Publisher for Counted<P> {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        let count = messages.len();
        self.inner.publish(topic, messages).await?;
        self.tally.add(count);
        Ok(())
    }

    async fn close(&self) -> Result<(), PublishError> {
        self.inner.close().await
    }

    fn capabilities(&self) -> PublisherCapabilities {
        self.inner.capabilities()
    }
}

#[async_trait]
impl<P: FencedPublisher> FencedPublisher for Counted<P> {
    async fn begin(&self, name: &str) -> Result<Box<dyn Term>, PublishError> {
        let inner = self.inner.begin(name).await?;
        Ok(Box::new(CountedTerm { inner, tally: self.tally.clone() }))
    }

    fn backend(&self) -> &'static str {
        self.inner.backend()
    }
}

#[async_trait]
impl Term for CountedTerm {
    fn checkpoint(&self) -> Option<&Bytes> {
        self.inner.checkpoint()
    }

    async fn publish(&mut self, batch: Vec<Outgoing>, checkpoint: Bytes) -> Result<Commit, PublishError> {
        let count = batch.iter().map(|outgoing| outgoing.messages.len()).sum();
        let (commit, tally) = (self.inner.publish(batch, checkpoint).await?, self.tally.clone());
        Ok(Commit::new(async move {
            commit.ended().await?;
            tally.add(count);
            Ok(())
        }))
    }
}
