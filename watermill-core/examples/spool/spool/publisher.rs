//! [`SpoolPublisher`].

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use tokio::{sync::RwLock, task::spawn_blocking};
use watermill_core::{
    Message, Publisher,
    backend::refuse_delays,
    error::{PublishError, PublishErrorKind},
    publisher::PublisherCapabilities,
};

use super::{BACKEND, directory::Directory, error::classify, marshaler};

/// Writes messages as files.
#[derive(Clone, Debug)]
pub(crate) struct SpoolPublisher {
    root: PathBuf,
    /// True once closed. Calls in progress hold it for reading.
    closed: Arc<RwLock<bool>>,
}

impl SpoolPublisher {
    /// A publisher below a directory.
    pub(crate) fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), closed: Arc::default() }
    }
}

#[async_trait]
impl Publisher for SpoolPublisher {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        let closed = self.closed.clone().read_owned().await;
        if *closed {
            return Err(PublishError::closed(topic));
        }
        refuse_delays(topic, &messages)?;
        let (root, name, count) = (self.root.clone(), topic.to_owned(), messages.len());
        let written = spawn_blocking(move || {
            let _in_progress = closed;
            let directory = Directory::open(&root, &name).map_err(|error| (0, error))?;
            let mut messages = messages.iter().enumerate();
            messages.try_for_each(|(at, message)| {
                directory.put(&marshaler::encode(message)).map_err(|error| (at, error))
            })
        });
        match written.await {
            Ok(Ok(())) => Ok(()),
            // Those before are there, and nothing behind the first failure was tried, of whatever key.
            Ok(Err((at, error))) => {
                Err(classify(error).publishing(topic).with_not_accepted((at..count).collect()))
            }
            Err(error) => Err(PublishError::new(PublishErrorKind::Unavailable, topic).with_source(error)),
        }
    }

    async fn close(&self) -> Result<(), PublishError> {
        *self.closed.write().await = true;
        Ok(())
    }

    fn capabilities(&self) -> PublisherCapabilities {
        PublisherCapabilities::new(BACKEND)
    }
}
