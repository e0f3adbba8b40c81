//! [`KafkaPublisherConfig`].

use rdkafka::ClientConfig;

use super::{
    ConfigError, CreateTopics,
    options::{Options, Refused},
};

/// How a [`KafkaPublisher`](crate::KafkaPublisher) publishes.
#[derive(Clone, Debug, PartialEq)]
pub struct KafkaPublisherConfig {
    pub(crate) brokers: String,
    pub(crate) create_topics: Option<CreateTopics>,
    pub(crate) options: Options,
}

const REFUSED: &[Refused] = &[Refused {
    name: "enable.idempotence",
    reason: "without it a retry can write a message twice and out of order",
}];

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

    /// Sets an option of librdkafka, over the defaults of this crate.
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
        problems.extend(self.create_topics.into_iter().flat_map(CreateTopics::problems));
        ConfigError::unless_empty(problems)
    }

    /// As librdkafka takes it.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("enable.idempotence", "true")
            // librdkafka's closest to Go's default client; messages without a key go anywhere.
            .set("partitioner", "fnv1a_random")
            // With librdkafka's 5 ms a caller that waits for its reports loses most of its rate.
            .set("linger.ms", "1");
        self.options.apply(&mut config);
        config
    }
}

impl Default for KafkaPublisherConfig {
    fn default() -> Self {
        Self { brokers: "localhost:9092".to_owned(), create_topics: None, options: Options::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_reported_at_once() {
        assert_eq!(KafkaPublisherConfig::default().validate(), Ok(()));
        let config = KafkaPublisherConfig::new(" ")
            .create_topics(CreateTopics::new(0, 1))
            .option("enable.idempotence", "false");
        let error = config.validate().unwrap_err();
        assert_eq!(error.problems().len(), 3, "{error}");
    }
}
