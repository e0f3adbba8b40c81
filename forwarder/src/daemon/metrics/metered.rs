//! [`Metered`] and [`MeteredFenced`]: destinations whose calls are measured.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;
use watermill_core::{
    Message, Publisher,
    error::PublishError,
    fenced::{Commit, FencedPublisher, Outgoing, Term},
    publisher::PublisherCapabilities,
};

use super::RelayMetrics;

/// A publisher.
pub(crate) struct Metered {
    pub(crate) inner: Arc<dyn Publisher>,
    pub(crate) metrics: Arc<RelayMetrics>,
}

#[async_trait]
impl Publisher for Metered {
    fn take_back(&self) {
        self.inner.take_back();
    }

    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        let (count, began) = (messages.len(), Instant::now());
        let published = self.inner.publish(topic, messages).await;
        self.metrics.called(count, began.elapsed(), &published);
        published
    }

    async fn close(&self) -> Result<(), PublishError> {
        self.inner.close().await
    }

    fn capabilities(&self) -> PublisherCapabilities {
        self.inner.capabilities()
    }
}

impl fmt::Debug for Metered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Metered").field(&self.inner.capabilities().backend).finish()
    }
}

/// A destination with checkpoints.
pub(crate) struct MeteredFenced {
    pub(crate) inner: Arc<dyn FencedPublisher>,
    pub(crate) metrics: Arc<RelayMetrics>,
}

struct MeteredTerm {
    inner: Box<dyn Term>,
    metrics: Arc<RelayMetrics>,
}

#[async_trait]
impl FencedPublisher for MeteredFenced {
    async fn begin(&self, name: &str) -> Result<Box<dyn Term>, PublishError> {
        let inner = self.inner.begin(name).await?;
        Ok(Box::new(MeteredTerm { inner, metrics: Arc::clone(&self.metrics) }))
    }

    fn backend(&self) -> &'static str {
        self.inner.backend()
    }
}

#[async_trait]
impl Term for MeteredTerm {
    fn checkpoint(&self) -> Option<&Bytes> {
        self.inner.checkpoint()
    }

    /// A call is a transaction, to the end of its commit.
    async fn publish(&mut self, batch: Vec<Outgoing>, checkpoint: Bytes) -> Result<Commit, PublishError> {
        let count = batch.iter().map(|outgoing| outgoing.messages.len()).sum();
        let (began, metrics) = (Instant::now(), Arc::clone(&self.metrics));
        match self.inner.publish(batch, checkpoint).await {
            Ok(commit) => Ok(Commit::new(async move {
                let committed = commit.ended().await;
                metrics.called(count, began.elapsed(), &committed);
                committed
            })),
            Err(error) => {
                let failed = Err(error);
                metrics.called(count, began.elapsed(), &failed);
                failed.map(|()| Commit::done())
            }
        }
    }
}
