//! [`ReplyInboxConfig`].

use std::{num::NonZeroUsize, time::Duration};

use crate::error::ConfigError;

/// Where a [`ReplyInbox`](super::ReplyInbox) reads replies, and how long a request waits for them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplyInboxConfig {
    /// The topic that replies are read from. Processes may share it: each reads all of it, in a group of its own, and
    /// leaves what others have asked for.
    pub topic: String,
    /// Whether requests name the topic, for responders to reply to: what gives each process a topic of its own, which a
    /// [`Responder`](super::Responder) has to allow. Off by default; Go's responders do not know it.
    pub names_topic: bool,
    /// How long a request waits, from when it is sent to its last reply; 30 s by default.
    pub timeout: Duration,
    /// How many replies of one request may wait to be taken by who reads them; 64 by default. With the next, the request has
    /// failed with [`Overflow`](super::RequestErrorKind::Overflow): what is slow holds up no other request.
    pub buffer: usize,
}

impl ReplyInboxConfig {
    /// Replies on this topic.
    pub fn new(topic: impl Into<String>) -> Self {
        Self { topic: topic.into(), names_topic: false, timeout: Duration::from_secs(30), buffer: 64 }
    }

    /// Sets [`names_topic`](Self::names_topic).
    #[must_use]
    pub fn name_topic(mut self) -> Self {
        self.names_topic = true;
        self
    }

    /// Sets [`timeout`](Self::timeout).
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets [`buffer`](Self::buffer).
    #[must_use]
    pub fn buffer(mut self, buffer: usize) -> Self {
        self.buffer = buffer;
        self
    }

    /// Says everything that cannot work.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with each problem.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::check("configure the inbox of replies")
            .unless(!self.topic.is_empty(), "topic is empty")
            .unless(!self.timeout.is_zero(), "timeout is 0, so nothing could ever be answered")
            .unless(self.buffer > 0, "buffer is 0, so no reply could be kept")
            .finish()
    }

    pub(super) fn room(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.buffer).unwrap_or(NonZeroUsize::MIN)
    }
}
