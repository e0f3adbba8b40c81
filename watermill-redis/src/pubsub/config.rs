//! [`RedisPubSubPublisherConfig`] and [`RedisPubSubSubscriberConfig`]: plain data, checked as a whole.

use std::time::Duration;

use watermill_core::{Backoff, error::ConfigError};

/// How a [`RedisPubSubPublisher`](crate::RedisPubSubPublisher) publishes.
#[derive(Clone, Debug, PartialEq)]
pub struct RedisPubSubPublisherConfig {
    pub(super) value_bytes_max: usize,
    pub(super) timeout: Duration,
}

/// How a [`RedisPubSubSubscriber`](crate::RedisPubSubSubscriber) listens.
#[derive(Clone, Debug, PartialEq)]
pub struct RedisPubSubSubscriberConfig {
    pub(super) buffer: usize,
    pub(super) buffer_bytes: usize,
    pub(super) ping_interval: Duration,
    pub(super) retry: Backoff,
    pub(super) timeout: Duration,
}

impl RedisPubSubPublisherConfig {
    /// Refuses messages whose payload, id or metadata have more bytes. Default: 32 MiB, which is when a server by default
    /// drops whoever is so far behind.
    #[must_use]
    pub fn value_bytes_max(mut self, bytes: usize) -> Self {
        self.value_bytes_max = bytes;
        self
    }

    /// Sets how long connecting and the server's answer may take, each. Default: 5 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// # Errors
    ///
    /// With everything that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::check("configure the publisher to Redis")
            .unless(self.value_bytes_max > 0, "value_bytes_max is 0, so nothing could be published")
            .unless(!self.timeout.is_zero(), "timeout is zero, so nothing would be in time")
            .finish()
    }
}

impl RedisPubSubSubscriberConfig {
    /// Sets how many messages a subscription keeps that nobody has taken yet. Those that come on top are dropped, and the
    /// stream says so. Default: 1,000.
    #[must_use]
    pub fn buffer(mut self, messages: usize) -> Self {
        self.buffer = messages;
        self
    }

    /// Sets how many bytes these may have together; one of any size is kept where there is no other. Default: 16 MiB.
    #[must_use]
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer_bytes = bytes;
        self
    }

    /// Sets how often the server is asked whether it is there. One that does not answer within
    /// [`timeout`](Self::timeout) is connected to again. Default: 5 s.
    #[must_use]
    pub fn ping_interval(mut self, interval: Duration) -> Self {
        self.ping_interval = interval;
        self
    }

    /// Sets the waits while the server fails. Default: [`Backoff::default`].
    #[must_use]
    pub fn retry(mut self, retry: Backoff) -> Self {
        self.retry = retry;
        self
    }

    /// Sets how long connecting and the server's answer may take, each. Default: 5 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// # Errors
    ///
    /// With everything that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::check("configure the subscriber to Redis")
            .unless(self.buffer > 0, "buffer is 0, so everything would be dropped")
            .unless(!self.ping_interval.is_zero(), "ping_interval is zero, so nothing else would be done")
            .unless(!self.timeout.is_zero(), "timeout is zero, so nothing would be in time")
            .finish()
    }
}

impl Default for RedisPubSubPublisherConfig {
    fn default() -> Self {
        Self { value_bytes_max: 32 * 1024 * 1024, timeout: Duration::from_secs(5) }
    }
}

impl Default for RedisPubSubSubscriberConfig {
    fn default() -> Self {
        Self {
            buffer: 1_000,
            buffer_bytes: 16 * 1024 * 1024,
            ping_interval: Duration::from_secs(5),
            retry: Backoff::default(),
            timeout: Duration::from_secs(5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_every_problem_is_reported_at_once() {
        assert_eq!(RedisPubSubPublisherConfig::default().validate(), Ok(()));
        let config = RedisPubSubPublisherConfig::default().value_bytes_max(0).timeout(Duration::ZERO);
        assert_eq!(config.validate().unwrap_err().problems().count(), 2);
        assert_eq!(RedisPubSubSubscriberConfig::default().validate(), Ok(()));
        let config = RedisPubSubSubscriberConfig::default().buffer(0).ping_interval(Duration::ZERO);
        assert_eq!(config.timeout(Duration::ZERO).validate().unwrap_err().problems().count(), 3);
    }
}
