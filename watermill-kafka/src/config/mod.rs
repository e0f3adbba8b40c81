//! [`KafkaPublisherConfig`] and [`KafkaSubscriberConfig`]: plain data, checked as a whole.

mod options;
mod publisher;
mod subscriber;

pub use publisher::KafkaPublisherConfig;
pub use subscriber::{KafkaSubscriberConfig, StartPosition};

use std::{error::Error, fmt};

use rdkafka::error::KafkaError;

/// Kafka's own bound for the names of topics.
const TOPIC_BYTES_MAX: usize = 249;

/// How topics are made that are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreateTopics {
    pub(crate) partitions: i32,
    pub(crate) replication: i32,
}

/// A configuration that cannot work, with every problem it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<String>,
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

impl ConfigError {
    /// Every problem, as `option: what is wrong with it`.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    pub(crate) fn unless_empty(problems: Vec<String>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self { problems }) }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "use this configuration: {}", self.problems.join("; "))
    }
}

impl Error for ConfigError {}

/// What librdkafka has against options that are fine one by one.
pub(crate) fn refused_by_client(error: KafkaError) -> ConfigError {
    ConfigError { problems: vec![format!("options: {error}")] }
}

/// Says what is wrong with a transactional id.
pub(crate) fn check_transactional_id(id: &str) -> Result<(), ConfigError> {
    let mut problems = Vec::new();
    if id.is_empty() {
        problems.push("transactional id: it is empty".to_owned());
    }
    if id.contains('\0') {
        problems.push("transactional id: contains a NUL character".to_owned());
    }
    ConfigError::unless_empty(problems)
}

/// Says what is wrong with the name of the topic for checkpoints.
pub(crate) fn check_checkpoint_topic(topic: &str) -> Result<(), ConfigError> {
    let problem = check_topic(topic).err().map(|problem| format!("checkpoint topic: {problem}"));
    ConfigError::unless_empty(problem.into_iter().collect())
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
