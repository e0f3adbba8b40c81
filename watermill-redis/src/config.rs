//! [`RedisPublisherConfig`] and [`RedisSubscriberConfig`]: plain data, checked as a whole.

use std::time::Duration;

use watermill_core::{Backoff, error::ConfigError};

/// What a server takes as one value unless its `proto-max-bulk-len` says otherwise.
const VALUE_BYTES_MAX: usize = 512 * 1024 * 1024;

/// How a [`RedisPublisher`](crate::RedisPublisher) writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisPublisherConfig {
    pub(crate) stream_length_max: Option<u64>,
    pub(crate) value_bytes_max: usize,
    pub(crate) timeout: Duration,
}

/// How a [`RedisSubscriber`](crate::RedisSubscriber) reads.
#[derive(Clone, Debug, PartialEq)]
pub struct RedisSubscriberConfig {
    pub(crate) group: String,
    pub(crate) consumer: Option<String>,
    pub(crate) start: StartPosition,
    pub(crate) fetch_ahead: usize,
    pub(crate) visibility_timeout: Duration,
    pub(crate) look_interval: Duration,
    pub(crate) ack_interval: Duration,
    pub(crate) delete_acked: bool,
    pub(crate) retry: Backoff,
    pub(crate) timeout: Duration,
}

/// Where a group begins that is not there yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartPosition {
    /// With the oldest message that the stream still has.
    #[default]
    Earliest,
    /// After the newest message there is when the group is made, by `initialize` or the first `subscribe`.
    Latest,
}

impl RedisPublisherConfig {
    /// Sets how many messages a stream keeps, about (`MAXLEN ~`): the oldest are trimmed, **read or not**.
    /// Default: none are.
    #[must_use]
    pub fn stream_length_max(mut self, messages: u64) -> Self {
        self.stream_length_max = Some(messages);
        self
    }

    /// Sets the largest payload, id or metadata in bytes; what is larger is refused before anything is sent.
    /// Default: 512 MiB, as the server's `proto-max-bulk-len`.
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
            .unless(self.stream_length_max != Some(0), "stream_length_max is 0, so nothing could be read")
            .unless(self.value_bytes_max > 0, "value_bytes_max is 0, so nothing could be published")
            .unless(!self.timeout.is_zero(), "timeout is zero, so nothing would be in time")
            .finish()
    }
}

impl RedisSubscriberConfig {
    /// Reads for a consumer group: each group receives every message, and its members share them.
    pub fn new(group: impl Into<String>) -> Self {
        Self {
            group: group.into(),
            consumer: None,
            start: StartPosition::default(),
            fetch_ahead: 64,
            visibility_timeout: Duration::from_secs(30),
            look_interval: Duration::from_millis(250),
            ack_interval: Duration::from_millis(5),
            delete_acked: false,
            retry: Backoff::default(),
            timeout: Duration::from_secs(5),
        }
    }

    /// Names the consumer, so that it finds what it had in hand when it starts again, at once. Default: each
    /// subscription has a name of its own, and what it leaves in a crash comes after the visibility timeout.
    /// Only one subscription to a topic may have the name: the one that begins last takes all that the other
    /// has in hand.
    #[must_use]
    pub fn consumer(mut self, name: impl Into<String>) -> Self {
        self.consumer = Some(name.into());
        self
    }

    /// Sets where a new group begins. Default: [`StartPosition::Earliest`].
    #[must_use]
    pub fn start(mut self, start: StartPosition) -> Self {
        self.start = start;
        self
    }

    /// Sets how many messages are fetched beyond what the window lets out. Default: 64. They are this
    /// member's: where handlers are slow and members many, fewer share the work better.
    #[must_use]
    pub fn fetch_ahead(mut self, messages: usize) -> Self {
        self.fetch_ahead = messages;
        self
    }

    /// Sets after how long the messages of a dead consumer are claimed by others. Default: 30 s. A live one
    /// keeps its messages for as long as it likes: a third of this apart it says that it lives. To be the
    /// same in all members of a group.
    #[must_use]
    pub fn visibility_timeout(mut self, timeout: Duration) -> Self {
        self.visibility_timeout = timeout;
        self
    }

    /// Sets how often to look for messages that others gave back or have left behind; a call that waits for
    /// new ones waits as long. Default: 250 ms.
    #[must_use]
    pub fn look_interval(mut self, interval: Duration) -> Self {
        self.look_interval = interval;
        self
    }

    /// Sets how long an ack may wait to be sent with others, up to 100 of them. Default: 5 ms.
    /// `ack_confirmed` does not wait.
    #[must_use]
    pub fn ack_interval(mut self, interval: Duration) -> Self {
        self.ack_interval = interval;
        self
    }

    /// Deletes messages from the stream when they are acked (`XDEL`): for one group alone, as others would
    /// not see them. Default: they stay.
    #[must_use]
    pub fn delete_acked(mut self, delete: bool) -> Self {
        self.delete_acked = delete;
        self
    }

    /// Sets the waits between attempts while the server fails. Default: [`Backoff::default`], 100 ms doubling
    /// to 30 s.
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
        let look_interval = self.look_interval >= Duration::from_millis(1);
        let visibility_timeout = self.visibility_timeout >= 3 * self.look_interval;
        ConfigError::check("configure the subscriber to Redis")
            .unless(!self.group.is_empty(), "group is empty")
            .unless(self.consumer.as_deref() != Some(""), "consumer is empty; leave it out")
            .unless(look_interval, "look_interval is less than 1 ms, which the server takes for ever")
            .unless(visibility_timeout, "visibility_timeout is less than three times look_interval")
            .unless(
                self.ack_interval < self.visibility_timeout / 3,
                "ack_interval is not below visibility_timeout / 3",
            )
            .unless(!self.timeout.is_zero(), "timeout is zero, so nothing would be in time")
            .finish()
    }
}

impl Default for RedisPublisherConfig {
    fn default() -> Self {
        Self { stream_length_max: None, value_bytes_max: VALUE_BYTES_MAX, timeout: Duration::from_secs(5) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(RedisPublisherConfig::default().validate(), Ok(()));
        assert_eq!(RedisSubscriberConfig::new("group").validate(), Ok(()));
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let config = RedisSubscriberConfig::new("")
            .consumer("")
            .look_interval(Duration::ZERO)
            .ack_interval(Duration::from_secs(30))
            .timeout(Duration::ZERO);
        assert_eq!(config.validate().unwrap_err().problems().count(), 5);
        let config = RedisPublisherConfig::default().stream_length_max(0).value_bytes_max(0);
        assert_eq!(config.validate().unwrap_err().problems().count(), 2);
    }
}
