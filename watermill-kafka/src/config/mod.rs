//! [`KafkaPublisherConfig`] and [`KafkaSubscriberConfig`]: plain data, checked as a whole.

mod options;
mod publisher;
mod subscriber;

pub use publisher::KafkaPublisherConfig;
pub use subscriber::{KafkaSubscriberConfig, StartPosition};

use rdkafka::error::KafkaError;
use watermill_core::error::ConfigError;

/// Kafka's own bound for the names of topics.
const TOPIC_BYTES_MAX: usize = 249;

/// How topics are made that are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreateTopics {
    pub(crate) partitions: i32,
    pub(crate) replication: i32,
}

impl CreateTopics {
    /// Topics of `partitions` partitions, each on `replication` brokers; -1 leaves either to the
    /// broker's own default.
    pub const fn new(partitions: i32, replication: i32) -> Self {
        Self { partitions, replication }
    }

    fn problems(self) -> impl Iterator<Item = String> {
        let wrong = |number| number == 0 || number < -1;
        let problem = |wrong: bool, what| wrong.then(|| format!("create_topics: {what} of zero or less"));
        problem(wrong(self.partitions), "partitions")
            .into_iter()
            .chain(problem(wrong(self.replication), "a replication"))
    }
}

/// How long a broker that is back is waited for at most, after it was away for long; librdkafka's ten seconds are a long
/// time for everybody behind it.
const RECONNECT_BACKOFF_MAX_MS: &str = "1000";

/// What is being configured, for errors.
const CLIENT: &str = "configure a Kafka client";

/// What librdkafka has against options that are fine one by one.
pub(crate) fn refused_by_client(error: KafkaError) -> ConfigError {
    ConfigError::new(CLIENT, format!("options: {error}"))
}

/// Says what is wrong with a transactional id.
pub(crate) fn check_transactional_id(id: &str) -> Result<(), ConfigError> {
    ConfigError::check("name a transactional producer")
        .unless(!id.is_empty(), "transactional id: it is empty")
        .unless(!id.contains('\0'), "transactional id: contains a NUL character")
        .finish()
}

/// Says what is wrong with the name of the topic for checkpoints.
pub(crate) fn check_checkpoint_topic(topic: &str) -> Result<(), ConfigError> {
    let problem = check_topic(topic).err().map(|problem| format!("checkpoint topic: {problem}"));
    ConfigError::check("name the topic for checkpoints").with(problem).finish()
}

/// Says what is wrong with the name of a topic.
pub(crate) fn check_topic(topic: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if topic.is_empty() {
        return Err("a topic needs a name".to_owned());
    }
    if matches!(topic, "." | "..") {
        return Err(format!("{topic:?} is no name that Kafka allows"));
    }
    if topic.len() > TOPIC_BYTES_MAX {
        return Err(format!("its name is longer than {TOPIC_BYTES_MAX} characters"));
    }
    match topic.chars().find(|c| !legal(*c)) {
        Some(c) => Err(format!("its name contains {c:?}; Kafka allows A-Z, a-z, 0-9, '.', '_' and '-'")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_kafka_does_not_allow_are_refused_with_the_reason() {
        for topic in ["orders", "a.b_c-D9", &"t".repeat(249)] {
            assert_eq!(check_topic(topic), Ok(()));
        }
        for topic in ["", ".", "..", "a b", "ü", "a/b", "^orders", &"t".repeat(250)] {
            assert!(check_topic(topic).is_err(), "{topic}");
        }
    }
}
