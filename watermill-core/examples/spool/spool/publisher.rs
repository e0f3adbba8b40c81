//! [`SpoolPublisher`].

use std::path::PathBuf;

use async_trait::async_trait;
use tokio::task::spawn_blocking;
use watermill_core::{
    Message, Publisher,
    backend::{Calls, refuse_delays},
    error::{PublishError, PublishErrorKind},
    publisher::PublisherCapabilities,
};

use super::{BACKEND, directory::Directory, error::classify, marshaler};

/// Writes messages as files.
#[derive(Clone, Debug)]
pub(crate) struct SpoolPublisher {
    root: PathBuf,
    calls: Calls,
}

impl SpoolPublisher {
    /// A publisher below a directory.
    pub(crate) fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), calls: Calls::default() }
    }
}

#[async_trait]
impl Publisher for SpoolPublisher {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        let Some(call) = self.calls.begin(topic, &messages)? else { return Ok(()) };
        refuse_delays(topic, &messages)?;
        let (root, name, count) = (self.root.clone(), topic.to_owned(), messages.len());
        let written = spawn_blocking(move || {
            let _in_progress = call;
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
        self.calls.close().await;
        Ok(())
    }

    fn capabilities(&self) -> PublisherCapabilities {
        PublisherCapabilities::new(BACKEND)
    }
}
