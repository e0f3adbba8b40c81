//! [`PubSubPublisherConfig`].

use std::{fmt, sync::Arc, time::Duration};

use watermill_core::{Backoff, Message, error::ConfigError};

use crate::PubSubAccess;

/// How a [`PubSubPublisher`](crate::PubSubPublisher) publishes.
#[derive(Clone, Debug)]
pub struct PubSubPublisherConfig {
    pub(crate) access: PubSubAccess,
    pub(crate) create_topics: bool,
    pub(crate) ordering_keys: OrderingKeys,
    pub(crate) batch_messages: u32,
    pub(crate) batch_bytes: u32,
    pub(crate) linger: Duration,
    pub(crate) in_flight_messages: usize,
    pub(crate) in_flight_bytes: usize,
    pub(crate) ordering_keys_max: usize,
    pub(crate) delivery_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) retry: Backoff,
}

/// What a message is ordered by.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum OrderingKeys {
    /// [`Message::key`]: messages of one key are in order, and those without a key in none.
    #[default]
    MessageKey,
    /// Nothing: no message is ordered. The key arrives all the same.
    None,
    /// What a function of the topic and the message says. `None`, and the empty text, order nothing.
    #[expect(clippy::type_complexity, reason = "a name for it would say no more")]
    By(Arc<dyn Fn(&str, &Message) -> Option<String> + Send + Sync>),
}

/// What a request to the service may hold.
const BATCH_MESSAGES_MAX: u32 = 1_000;
const BATCH_BYTES_MAX: u32 = 10_000_000;

/// The client's own bound.
const LINGER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

impl OrderingKeys {
    /// What a function of the topic and the message says.
    pub fn by(choose: impl Fn(&str, &Message) -> Option<String> + Send + Sync + 'static) -> Self {
        Self::By(Arc::new(choose))
    }
}

impl fmt::Debug for OrderingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MessageKey => "MessageKey",
            Self::None => "None",
            Self::By(_) => "By(..)",
        })
    }
}

impl PubSubPublisherConfig {
    /// Publishes to the topics of a project.
    pub fn new(access: impl Into<PubSubAccess>) -> Self {
        Self {
            access: access.into(),
            create_topics: false,
            ordering_keys: OrderingKeys::MessageKey,
            batch_messages: 100,
            batch_bytes: 1_000_000,
            linger: Duration::from_millis(1),
            in_flight_messages: 10_000,
            in_flight_bytes: 64 << 20,
            ordering_keys_max: 10_000,
            delivery_timeout: Duration::from_secs(60),
            request_timeout: Duration::from_secs(10),
            retry: Backoff::default(),
        }
    }

    /// Creates topics that are missing, before the first message to them. Default: off, and publishing to a
    /// missing topic fails with [`Topic`](watermill_core::error::PublishErrorKind::Topic). Needs the
    /// permission `pubsub.topics.create`; who creates one at the same time is not in the way.
    #[must_use]
    pub fn create_topics(mut self, create_topics: bool) -> Self {
        self.create_topics = create_topics;
        self
    }

    /// Sets what messages are ordered by. Default: [`OrderingKeys::MessageKey`].
    #[must_use]
    pub fn ordering_keys(mut self, ordering_keys: OrderingKeys) -> Self {
        self.ordering_keys = ordering_keys;
        self
    }

    /// Sets how many messages a request may hold. Default: 100. At most 1,000, the service's bound.
    #[must_use]
    pub fn batch_messages(mut self, messages: u32) -> Self {
        self.batch_messages = messages;
        self
    }

    /// Sets how many bytes of messages a request may hold. Default: 1 MB. At most 10 MB, the service's
    /// bound. A message beyond it goes alone.
    #[must_use]
    pub fn batch_bytes(mut self, bytes: u32) -> Self {
        self.batch_bytes = bytes;
        self
    }

    /// Sets how long a request that is not full waits for more messages. Default: 1 ms, so that a caller who
    /// awaits each call does not wait for nobody. The service bills a request as at least 1 kB: where small
    /// messages trickle, 10 ms (the client's own default) or more are cheaper.
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// Sets how many messages may be on their way, in all calls together. Default: 10,000. At the bound a
    /// call waits until others are done; one that is larger goes alone.
    #[must_use]
    pub fn in_flight_messages(mut self, messages: usize) -> Self {
        self.in_flight_messages = messages;
        self
    }

    /// Sets how many bytes may be on their way, in all calls together. Default: 64 MiB. At the bound as
    /// [`in_flight_messages`](Self::in_flight_messages).
    #[must_use]
    pub fn in_flight_bytes(mut self, bytes: usize) -> Self {
        self.in_flight_bytes = bytes;
        self
    }

    /// Sets how many ordering keys of a topic the client may remember. Default: 10,000. Google's client keeps
    /// a task for each key it has ever seen; at the bound, calls to the topic wait until those on their way
    /// are done, and a fresh client goes on.
    #[must_use]
    pub fn ordering_keys_max(mut self, keys: usize) -> Self {
        self.ordering_keys_max = keys;
        self
    }

    /// Sets how long a request is tried again, from when it is sent. Default: 60 s. After that its messages
    /// are not accepted, and `publish` fails.
    #[must_use]
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.delivery_timeout = timeout;
        self
    }

    /// Sets how long creating a topic may take, retries included. Default: 10 s.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Sets the waits between attempts of a request. Default: [`Backoff::default`], 100 ms doubling to 30 s.
    /// What is tried again is what [Google's guide] says; the client counts failures and tries less often
    /// where nearly all fail.
    ///
    /// [Google's guide]: https://cloud.google.com/pubsub/docs/reference/error-codes
    #[must_use]
    pub fn retry(mut self, retry: Backoff) -> Self {
        self.retry = retry;
        self
    }

    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with every problem there is.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let is_within = |value: u32, max: u32| (1..=max).contains(&value);
        ConfigError::check("configure the Pub/Sub publisher")
            .with(self.access.problems())
            .unless(
                is_within(self.batch_messages, BATCH_MESSAGES_MAX),
                "batch_messages: a request holds 1 to 1,000 messages",
            )
            .unless(
                is_within(self.batch_bytes, BATCH_BYTES_MAX),
                "batch_bytes: a request holds 1 byte to 10 MB",
            )
            .unless(self.linger <= LINGER_MAX, "linger: more than a day")
            .unless(self.in_flight_messages > 0, "in_flight_messages: zero would publish nothing")
            .unless(self.in_flight_bytes > 0, "in_flight_bytes: zero would publish nothing")
            .unless(
                u32::try_from(self.in_flight_messages).is_ok() && u32::try_from(self.in_flight_bytes).is_ok(),
                "in_flight_messages, in_flight_bytes: more than four thousand million",
            )
            .unless(self.ordering_keys_max > 0, "ordering_keys_max: zero would remember none")
            .unless(!self.delivery_timeout.is_zero(), "delivery_timeout: zero would not wait for any answer")
            .unless(!self.request_timeout.is_zero(), "request_timeout: zero would not wait for any answer")
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_reported_at_once() {
        assert_eq!(PubSubPublisherConfig::new("p").validate(), Ok(()));
        let config = PubSubPublisherConfig::new("")
            .batch_messages(1_001)
            .batch_bytes(0)
            .linger(Duration::MAX)
            .in_flight_messages(0)
            .in_flight_bytes(0)
            .ordering_keys_max(0)
            .delivery_timeout(Duration::ZERO)
            .request_timeout(Duration::ZERO);
        let error = config.validate().unwrap_err();
        assert_eq!(error.problems().count(), 9, "{error}");
    }
}
