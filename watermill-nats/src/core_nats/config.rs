//! [`CoreNatsConfig`].

use std::time::Duration;

use watermill_core::error::ConfigError;

/// How [`CoreNatsPublisher`](crate::CoreNatsPublisher) and [`CoreNatsSubscriber`](crate::CoreNatsSubscriber) work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreNatsConfig {
    pub(crate) queue_group: Option<String>,
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
            .unless(!self.timeout.is_zero(), "timeout is zero, so nothing would be in time")
            .finish()
    }
}

impl Default for CoreNatsConfig {
    fn default() -> Self {
        Self { queue_group: None, timeout: Duration::from_secs(5) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_reported_at_once() {
        assert_eq!(CoreNatsConfig::default().queue_group("g").validate(), Ok(()));
        let config = CoreNatsConfig::default().queue_group("").timeout(Duration::ZERO);
        assert_eq!(config.validate().unwrap_err().problems().count(), 2);
    }
}
