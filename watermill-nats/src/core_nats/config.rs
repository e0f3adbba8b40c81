//! [`CoreNatsConfig`].

use std::time::Duration;

use watermill_core::error::ConfigError;

/// How [`CoreNatsPublisher`](crate::CoreNatsPublisher) and [`CoreNatsSubscriber`](crate::CoreNatsSubscriber) work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreNatsConfig {
    pub(crate) queue_group: Option<String>,
    pub(crate) buffer: usize,
    pub(crate) buffer_bytes: usize,
    pub(crate) timeout: Duration,
}

impl CoreNatsConfig {
    /// Subscribes in a queue group, whose members share the messages. Default: every subscription gets every
    /// message.
    #[must_use]
    pub fn queue_group(mut self, group: impl Into<String>) -> Self {
        self.queue_group = Some(group.into());
        self
    }

    /// Sets how many messages a subscription keeps that nobody has taken yet. Those that come on top are dropped, and the
    /// stream says so. Default: 65,536.
    #[must_use]
    pub fn buffer(mut self, messages: usize) -> Self {
        self.buffer = messages;
        self
    }

    /// Sets how many bytes these may have together; one of any size is kept where there is no other. Default: 64 MiB.
    #[must_use]
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer_bytes = bytes;
        self
    }

    /// Sets how long the server's answer may take. Default: 5 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// # Errors
    ///
    /// With everything that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let group = self.queue_group.as_deref();
        let is_group = group.is_none_or(|group| !group.is_empty() && !group.contains(char::is_whitespace));
        ConfigError::check("configure core NATS")
            .unless(is_group, "queue_group is empty or has spaces; leave it out to get every message")
            .unless(self.buffer > 0, "buffer is 0, so nothing could be taken")
            .unless(!self.timeout.is_zero(), "timeout is zero, so nothing would be in time")
            .finish()
    }
}

impl Default for CoreNatsConfig {
    fn default() -> Self {
        Self { queue_group: None, buffer: 65_536, buffer_bytes: 64 << 20, timeout: Duration::from_secs(5) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_reported_at_once() {
        assert_eq!(CoreNatsConfig::default().queue_group("g").validate(), Ok(()));
        let config = CoreNatsConfig::default().queue_group("").buffer(0).timeout(Duration::ZERO);
        assert_eq!(config.validate().unwrap_err().problems().count(), 3);
    }
}
