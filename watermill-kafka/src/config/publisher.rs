//! [`KafkaPublisherConfig`].

use std::time::Duration;

use rdkafka::ClientConfig;
use watermill_core::error::ConfigError;

use super::{
    CLIENT, CreateTopics, RECONNECT_BACKOFF_MAX_MS,
    options::{Options, Refused},
};

/// How a [`KafkaPublisher`](crate::KafkaPublisher) publishes.
#[derive(Clone, Debug, PartialEq)]
pub struct KafkaPublisherConfig {
    pub(crate) brokers: String,
    pub(crate) create_topics: Option<CreateTopics>,
    pub(crate) delivery_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) options: Options,
}

/// librdkafka's own default of `message.max.bytes`.
const MESSAGE_BYTES_MAX: usize = 1_000_000;

/// Kafka's own default for how long a transaction may stay open.
const TRANSACTION_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// Longer waits than librdkafka can count.
const TIMEOUT_MAX: Duration = Duration::from_millis(i32::MAX as u64);

/// The first pause before a request of a transaction is made again. With librdkafka's 100 ms most of a transaction is this
/// pause, as soon as its coordinator is still busy with the one before; it doubles each time, as there.
const TRANSACTION_RETRY_BACKOFF_MS: &str = "20";
const RETRY_BACKOFF: &str = "retry.backoff.ms";

const REFUSED: &[Refused] = &[
    Refused {
        name: "enable.idempotence",
        reason: "without it a retry can write a message twice and out of order",
    },
    Refused {
        name: "enable.gapless.guarantee",
        reason: "without it messages of a key overtake one that a broker refuses",
    },
    Refused { name: "transactional.id", reason: "give it to a transactional publisher" },
    Refused { name: "transaction.timeout.ms", reason: "use `delivery_timeout`" },
    Refused { name: "message.timeout.ms", reason: "use `delivery_timeout`" },
    Refused { name: "delivery.timeout.ms", reason: "use `delivery_timeout`" },
    Refused { name: "topic.metadata.propagation.max.ms", reason: "use `request_timeout`" },
    Refused {
        name: "delivery.report.only.error",
        reason: "a call waits for the report of each of its messages",
    },
];

impl KafkaPublisherConfig {
    /// Publishes to the cluster of these brokers: `host:port`, several separated by commas.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self { brokers: brokers.into(), ..Self::default() }
    }

    /// Creates topics that are missing. Default: none is created, and publishing to a missing topic fails.
    #[must_use]
    pub fn create_topics(mut self, create_topics: CreateTopics) -> Self {
        self.create_topics = Some(create_topics);
        self
    }

    /// Sets how long a message may be on its way, retries included. Default: 2 min. After that it is not
    /// accepted, with [`Timeout`](watermill_core::error::PublishErrorKind::Timeout), and may have been
    /// written all the same.
    #[must_use]
    pub fn delivery_timeout(mut self, delivery_timeout: Duration) -> Self {
        self.delivery_timeout = delivery_timeout;
        self
    }

    /// Sets how long a topic is looked for that the brokers do not know, and how long creating one may
    /// take. Default: 10 s. After that, publishing to it fails with
    /// [`Topic`](watermill_core::error::PublishErrorKind::Topic).
    #[must_use]
    pub fn request_timeout(mut self, request_timeout: Duration) -> Self {
        self.request_timeout = request_timeout;
        self
    }

    /// Sets an option of librdkafka, over the defaults of this crate. Those that would break a guarantee
    /// are refused by [`validate`](Self::validate).
    #[must_use]
    pub fn option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.set(name, value);
        self
    }

    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with every problem there is.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut problems = self.options.problems(REFUSED);
        if self.brokers.trim().is_empty() {
            problems.push("brokers: there are none".to_owned());
        }
        let timeouts =
            [("delivery_timeout", self.delivery_timeout), ("request_timeout", self.request_timeout)];
        for (name, timeout) in timeouts {
            if timeout < Duration::from_millis(1) || timeout > TIMEOUT_MAX {
                problems.push(format!("{name}: from a millisecond to 24 days"));
            }
        }
        problems.extend(self.create_topics.into_iter().flat_map(CreateTopics::problems));
        ConfigError::check(CLIENT).with(problems).finish()
    }

    /// As librdkafka takes it.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("reconnect.backoff.max.ms", RECONNECT_BACKOFF_MAX_MS)
            .set("enable.idempotence", "true")
            // When a broker refuses a batch, what is queued behind it must not be written: it would have
            // overtaken what comes again. librdkafka fails all of it then, and the client is replaced.
            .set("enable.gapless.guarantee", "true")
            // librdkafka's closest to Go's default client; messages without a key go anywhere.
            .set("partitioner", "fnv1a_random")
            // With librdkafka's 5 ms a caller that waits for its reports loses most of its rate.
            .set("linger.ms", "1")
            .set("message.timeout.ms", self.delivery_timeout.as_millis().to_string())
            .set("topic.metadata.propagation.max.ms", self.request_timeout.as_millis().to_string())
            // What is queued is bounded by librdkafka's 100,000 messages and by this; its 1 GiB is a lot.
            .set("queue.buffering.max.kbytes", "131072");
        self.options.apply(&mut config);
        config
    }

    /// How to connect, for a client of another kind.
    pub(crate) fn connection(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("reconnect.backoff.max.ms", RECONNECT_BACKOFF_MAX_MS);
        self.options.connection().apply(&mut config);
        config
    }

    /// The same for a producer of transactions.
    pub(crate) fn transactional_client(&self, id: &str) -> ClientConfig {
        let mut config = self.client();
        let timeout = self.transaction_timeout().as_millis().to_string();
        config.set("transactional.id", id).set("message.timeout.ms", &timeout);
        config.set("transaction.timeout.ms", timeout);
        if self.options.get(RETRY_BACKOFF).is_none() {
            config.set(RETRY_BACKOFF, TRANSACTION_RETRY_BACKOFF_MS);
        }
        config
    }

    /// How long a transaction may stay open. Readers of what is committed wait for one that was left open
    /// to end, and everybody behind it too.
    pub(crate) fn transaction_timeout(&self) -> Duration {
        self.delivery_timeout.min(TRANSACTION_TIMEOUT_MAX)
    }

    /// The most bytes that a record may have.
    pub(crate) fn message_bytes_max(&self) -> usize {
        let given = self.options.get("message.max.bytes").and_then(|bytes| bytes.trim().parse().ok());
        given.unwrap_or(MESSAGE_BYTES_MAX)
    }
}

impl Default for KafkaPublisherConfig {
    fn default() -> Self {
        Self {
            brokers: "localhost:9092".to_owned(),
            create_topics: None,
            delivery_timeout: Duration::from_secs(120),
            request_timeout: Duration::from_secs(10),
            options: Options::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_tries_again_sooner_unless_it_is_said_when() {
        let backoff = |config: &KafkaPublisherConfig| {
            config.transactional_client("relay").get(RETRY_BACKOFF).map(str::to_owned)
        };
        let config = KafkaPublisherConfig::default();
        assert_eq!(config.client().get(RETRY_BACKOFF), None);
        assert_eq!(backoff(&config).as_deref(), Some(TRANSACTION_RETRY_BACKOFF_MS));
        assert_eq!(backoff(&config.option(RETRY_BACKOFF, "300")).as_deref(), Some("300"));
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        assert_eq!(KafkaPublisherConfig::default().validate(), Ok(()));
        let config = KafkaPublisherConfig::new(" ")
            .create_topics(CreateTopics::new(0, 1))
            .delivery_timeout(Duration::ZERO)
            .request_timeout(Duration::MAX)
            .option("enable.idempotence", "false");
        let error = config.validate().unwrap_err();
        assert_eq!(error.problems().count(), 5, "{error}");
    }
}
