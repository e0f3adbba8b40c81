//! [`NatsPublisherConfig`] and [`NatsSubscriberConfig`]: plain data, checked as a whole.

use std::{fmt, sync::Arc, time::Duration};

use async_nats::jetstream::stream;
use watermill_core::{Backoff, error::ConfigError};

use crate::subject;

/// How a [`NatsPublisher`](crate::NatsPublisher) writes.
#[derive(Clone, Debug)]
pub struct NatsPublisherConfig {
    pub(crate) streams: Streams,
    pub(crate) deduplicate: bool,
    pub(crate) in_flight_max: usize,
    pub(crate) message_bytes_max: Option<usize>,
    pub(crate) timeout: Duration,
}

/// How a [`NatsSubscriber`](crate::NatsSubscriber) reads.
#[derive(Clone, Debug)]
pub struct NatsSubscriberConfig {
    pub(crate) group: String,
    pub(crate) streams: Streams,
    pub(crate) consumer: Named,
    pub(crate) start: StartPosition,
    pub(crate) ordered: bool,
    pub(crate) fetch_ahead: usize,
    pub(crate) ack_wait: Duration,
    pub(crate) max_ack_pending: u32,
    pub(crate) ack_interval: Duration,
    pub(crate) heartbeat: Duration,
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
    /// After the newest message there is when the consumer is made, by `initialize` or the first `subscribe`.
    Latest,
}

/// Where streams come from.
#[derive(Clone)]
pub(crate) enum Streams {
    /// One is made for a topic that no stream has.
    OnDemand(Arc<dyn Fn(&str) -> stream::Config + Send + Sync>),
    /// Somebody else has made them.
    Existing,
}

/// The name of a group's consumer for a topic.
#[derive(Clone)]
pub(crate) struct Named(pub(crate) Arc<NameOf>);

type NameOf = dyn Fn(&str, &str) -> String + Send + Sync;

impl NatsPublisherConfig {
    /// Sets what stream is made for a topic that no stream has. Default: one with the topic as its only subject and, where
    /// that can be a name, as its name, otherwise as the server has it: on disk, one replica, without limits.
    ///
    /// ```
    /// use async_nats::jetstream::stream::{self, RetentionPolicy};
    /// use watermill_nats::NatsPublisherConfig;
    ///
    /// let config = NatsPublisherConfig::default().streams(|topic| stream::Config {
    ///     name: topic.replace('.', "_"),
    ///     subjects: vec![topic.to_owned()],
    ///     retention: RetentionPolicy::WorkQueue,
    ///     num_replicas: 3,
    ///     ..stream::Config::default()
    /// });
    /// ```
    #[must_use]
    pub fn streams(mut self, of_topic: impl Fn(&str) -> stream::Config + Send + Sync + 'static) -> Self {
        self.streams = Streams::OnDemand(Arc::new(of_topic));
        self
    }

    /// Makes no streams: a topic that no stream has is an error.
    #[must_use]
    pub fn existing_streams(mut self) -> Self {
        self.streams = Streams::Existing;
        self
    }

    /// Sends the message's id as `Nats-Msg-Id`, so that the server stores one of the messages of a stream that have the same
    /// id and come within its deduplication window, 2 minutes unless the stream says otherwise: publishing again what may have
    /// been published has its effect once. Default: no, as Go's library has it, because a message that a handler passes on, or that
    /// somebody publishes again on purpose, has the same id and would be **dropped** as well.
    #[must_use]
    pub fn deduplicate(mut self, deduplicate: bool) -> Self {
        self.deduplicate = deduplicate;
        self
    }

    /// Sets how many messages may be on their way without the server's word, of all calls together; calls wait
    /// for their turn beyond that. Default: 4,096.
    #[must_use]
    pub fn in_flight_max(mut self, messages: usize) -> Self {
        self.in_flight_max = messages;
        self
    }

    /// Sets how large a message may be with its headers, in bytes; what is larger is refused before anything is
    /// sent. Default: what the server announces (`max_payload`, 1 MiB unless it is configured). For streams that take less.
    #[must_use]
    pub fn message_bytes_max(mut self, bytes: usize) -> Self {
        self.message_bytes_max = Some(bytes);
        self
    }

    /// Sets how long the server's answer may take, to each message. Default: 5 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// # Errors
    ///
    /// With everything that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::check("configure the publisher to NATS")
            .unless(self.in_flight_max > 0, "in_flight_max is 0, so nothing could be published")
            .unless(
                self.message_bytes_max != Some(0),
                "message_bytes_max is 0, so nothing could be published",
            )
            .unless(!self.timeout.is_zero(), "timeout is zero, so nothing would be in time")
            .finish()
    }
}

impl NatsSubscriberConfig {
    /// Reads for a consumer group: each group receives every message, and its members share them. A group is a
    /// durable consumer of the stream.
    pub fn new(group: impl Into<String>) -> Self {
        Self {
            group: group.into(),
            streams: Streams::default(),
            consumer: Named::default(),
            start: StartPosition::default(),
            ordered: false,
            fetch_ahead: 128,
            ack_wait: Duration::from_secs(30),
            max_ack_pending: 10_000,
            ack_interval: Duration::from_millis(5),
            heartbeat: Duration::from_secs(1),
            retry: Backoff::default(),
            timeout: Duration::from_secs(5),
        }
    }

    /// As [`NatsPublisherConfig::streams`].
    #[must_use]
    pub fn streams(mut self, of_topic: impl Fn(&str) -> stream::Config + Send + Sync + 'static) -> Self {
        self.streams = Streams::OnDemand(Arc::new(of_topic));
        self
    }

    /// Makes no streams: a topic that no stream has is an error.
    #[must_use]
    pub fn existing_streams(mut self) -> Self {
        self.streams = Streams::Existing;
        self
    }

    /// Sets how the consumer of a group and a topic is called. Default: `watermill__{group}__{topic}` with `_` in the place of
    /// what a name cannot have, as Go's library has it.
    #[must_use]
    pub fn consumer(mut self, of: impl Fn(&str, &str) -> String + Send + Sync + 'static) -> Self {
        self.consumer = Named(Arc::new(of));
        self
    }

    /// Sets where a new group begins. Default: [`StartPosition::Earliest`].
    #[must_use]
    pub fn start(mut self, start: StartPosition) -> Self {
        self.start = start;
        self
    }

    /// Has the server hand out one message at a time to the whole group (`max_ack_pending` 1), so that its
    /// members together keep the order of the topic, whatever fails. Each message then waits for the ack of the one before.
    /// Default: the members each take the next messages. To be the same in all of them.
    #[must_use]
    pub fn ordered(mut self, ordered: bool) -> Self {
        self.ordered = ordered;
        self
    }

    /// Sets how many messages are fetched beyond what the window lets out. Default: 128. They are this
    /// member's: where handlers are slow and members many, fewer share the work better. None where
    /// [`ordered`](Self::ordered) is set.
    #[must_use]
    pub fn fetch_ahead(mut self, messages: usize) -> Self {
        self.fetch_ahead = messages;
        self
    }

    /// Sets after how long the messages of a dead member come to others. Default: 30 s. A live one keeps its
    /// messages for as long as it likes: a third of this apart it says that it works on them. Of a consumer that is there, its own
    /// holds.
    #[must_use]
    pub fn ack_wait(mut self, wait: Duration) -> Self {
        self.ack_wait = wait;
        self
    }

    /// Sets how many messages the members of the group may have in hand together, those included whose nack has a delay that has not
    /// passed; the server hands out no more. Default: 10,000. Each member asks for no more than its window and
    /// [`fetch_ahead`](Self::fetch_ahead) let in. Of a consumer that is there, its own holds.
    #[must_use]
    pub fn max_ack_pending(mut self, messages: u32) -> Self {
        self.max_ack_pending = messages;
        self
    }

    /// Sets how long an ack may wait to be sent with others, up to 256 of them, of which the server confirms
    /// the last, and the others with it. Default: 5 ms. `ack_confirmed` does not wait.
    #[must_use]
    pub fn ack_interval(mut self, interval: Duration) -> Self {
        self.ack_interval = interval;
        self
    }

    /// Sets how often the server says that it is there while there are no messages. One that is silent for
    /// three times as long counts as away. Default: 1 s.
    #[must_use]
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.heartbeat = interval;
        self
    }

    /// Sets the waits between attempts while the server fails. Default: [`Backoff::default`], 100 ms doubling
    /// to 30 s.
    #[must_use]
    pub fn retry(mut self, retry: Backoff) -> Self {
        self.retry = retry;
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
        let heartbeat = (Duration::from_millis(100)..=Duration::from_secs(10)).contains(&self.heartbeat);
        let room = usize::try_from(self.max_ack_pending).unwrap_or(usize::MAX) > self.fetch_ahead;
        ConfigError::check("configure the subscriber to NATS")
            .unless(!self.group.is_empty(), "group is empty")
            .unless(
                self.ordered || room,
                "max_ack_pending is not above fetch_ahead, so nothing could be handled",
            )
            .unless(self.ack_wait >= Duration::from_millis(100), "ack_wait is below 100 ms")
            .unless(self.ack_interval < self.ack_wait / 3, "ack_interval is not below ack_wait / 3")
            .unless(heartbeat, "heartbeat is not between 100 ms and 10 s")
            .unless(!self.timeout.is_zero(), "timeout is zero, so nothing would be in time")
            .finish()
    }

    /// What the server may hand out to the group.
    pub(crate) fn pending_max(&self) -> i64 {
        if self.ordered { 1 } else { self.max_ack_pending.into() }
    }
}

impl Default for NatsPublisherConfig {
    fn default() -> Self {
        Self {
            streams: Streams::default(),
            deduplicate: false,
            in_flight_max: 4_096,
            message_bytes_max: None,
            timeout: Duration::from_secs(5),
        }
    }
}

impl Default for Streams {
    fn default() -> Self {
        Self::OnDemand(Arc::new(|topic| stream::Config {
            name: subject::name(topic),
            subjects: vec![topic.to_owned()],
            ..stream::Config::default()
        }))
    }
}

impl Default for Named {
    fn default() -> Self {
        Self(Arc::new(|group, topic| subject::name(&format!("watermill__{group}__{topic}"))))
    }
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OnDemand(_) => "OnDemand",
            Self::Existing => "Existing",
        })
    }
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Named").field(&(self.0)("{group}", "{topic}")).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(NatsPublisherConfig::default().validate(), Ok(()));
        assert_eq!(NatsSubscriberConfig::new("group").validate(), Ok(()));
        assert_eq!(NatsSubscriberConfig::new("group").ordered(true).max_ack_pending(0).validate(), Ok(()));
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let config = NatsSubscriberConfig::new("")
            .max_ack_pending(128)
            .ack_wait(Duration::ZERO)
            .heartbeat(Duration::ZERO)
            .timeout(Duration::ZERO);
        assert_eq!(config.validate().unwrap_err().problems().count(), 6);
        let config = NatsPublisherConfig::default().in_flight_max(0).message_bytes_max(0);
        assert_eq!(config.timeout(Duration::ZERO).validate().unwrap_err().problems().count(), 3);
    }

    #[test]
    fn a_consumer_is_called_as_go_calls_it() {
        let config = NatsSubscriberConfig::new("billing");
        assert_eq!((config.consumer.0)("billing", "orders.placed"), "watermill__billing__orders_placed");
    }
}
