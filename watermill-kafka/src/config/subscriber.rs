//! [`KafkaSubscriberConfig`].

use std::time::Duration;

use rdkafka::{ClientConfig, config::RDKafkaLogLevel};
use watermill_core::{Backoff, error::ConfigError};

use super::{
    CLIENT, CreateTopics, RECONNECT_BACKOFF_MAX_MS, check_topic,
    options::{Options, Refused},
};
use crate::silence::Silence;

/// How a [`KafkaSubscriber`](crate::KafkaSubscriber) reads.
#[derive(Clone, Debug, PartialEq)]
pub struct KafkaSubscriberConfig {
    pub(crate) brokers: String,
    pub(crate) group: Option<String>,
    pub(crate) start: StartPosition,
    pub(crate) max_ahead: usize,
    pub(crate) commit_interval: Option<Duration>,
    pub(crate) retry: Backoff,
    pub(crate) dead_letter_topic: Option<String>,
    pub(crate) create_topics: Option<CreateTopics>,
    pub(crate) request_timeout: Duration,
    pub(crate) discovery_interval: Duration,
    pub(crate) lag_interval: Duration,
    pub(crate) options: Options,
}

/// Where reading begins when nothing is committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartPosition {
    /// With the oldest message that Kafka still has.
    #[default]
    Earliest,
    /// After the newest message there is when the group is made, by `initialize` or the first
    /// `subscribe`; without a group, after the newest there is at `subscribe`. Partitions that are added
    /// later are read from their beginning.
    Latest,
}

const REFUSED: &[Refused] = &[
    Refused { name: "group.id", reason: "use `group`" },
    Refused {
        name: "enable.auto.commit",
        reason: "it commits what was fetched, and not what was acked: a crash would lose messages",
    },
    Refused {
        name: "enable.auto.offset.store",
        reason: "it stores what was fetched, and not what was acked: a crash would lose messages",
    },
    Refused { name: "auto.commit.enable", reason: "it is an old name of enable.auto.commit" },
    Refused { name: "auto.offset.reset", reason: "use `start`" },
    Refused { name: "enable.partition.eof", reason: "the end of a partition is not an error here" },
    Refused { name: "statistics.interval.ms", reason: "use `lag_interval`" },
];

/// Of a group's members, unless set: librdkafka's default.
const SESSION_TIMEOUT: Duration = Duration::from_secs(45);

const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// Kafka Streams' default for the same.
const COMMIT_INTERVAL_WITH_OUTPUTS: Duration = Duration::from_millis(100);

/// A waiting commit must not be what keeps a partition's next owner busy.
const COMMIT_INTERVAL_MAX: Duration = Duration::from_secs(60);

impl KafkaSubscriberConfig {
    /// Reads from the cluster of these brokers: `host:port`, several separated by commas.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self { brokers: brokers.into(), ..Self::default() }
    }

    /// Sets the consumer group: each group receives every message, and its members share them. Default:
    /// none. Without one, a subscription reads every partition by itself and commits nothing.
    #[must_use]
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Sets where to begin when nothing is committed. Default: [`StartPosition::Earliest`]. Go's library
    /// begins with the newest, and thereby misses what is published before its first subscriber has
    /// joined.
    #[must_use]
    pub fn start(mut self, start: StartPosition) -> Self {
        self.start = start;
        self
    }

    /// Sets how many messages of a partition may be in memory from the oldest unsettled one on, settled
    /// ones included. Default: 10,000. At the bound no more of that partition are handed out until the
    /// oldest is settled. A window larger than this raises it.
    #[must_use]
    pub fn max_ahead(mut self, max_ahead: usize) -> Self {
        self.max_ahead = max_ahead;
        self
    }

    /// Sets how long an ack may wait to be committed with others. Default: 1 s; 100 ms with a
    /// [`KafkaExactlyOncePublisher`](crate::KafkaExactlyOncePublisher), whose readers wait as long. What is acked and
    /// not committed when the process dies is delivered again. `ack_confirmed` does not wait.
    #[must_use]
    pub fn commit_interval(mut self, commit_interval: Duration) -> Self {
        self.commit_interval = Some(commit_interval);
        self
    }

    /// Sets the waits between attempts to send a dead letter. Default: [`Backoff::default`], 100 ms
    /// doubling to 30 s.
    #[must_use]
    pub fn retry(mut self, retry: Backoff) -> Self {
        self.retry = retry;
        self
    }

    /// Sets the topic that rejected messages are sent to, before their place is passed. Default: none.
    /// Without one, and in a subscription to that topic itself, a rejected message is passed with an error
    /// in the log.
    #[must_use]
    pub fn dead_letter_topic(mut self, topic: impl Into<String>) -> Self {
        self.dead_letter_topic = Some(topic.into());
        self
    }

    /// Creates topics that are missing, the one for dead letters included. Default: none is created, and
    /// subscribing to a missing topic fails.
    #[must_use]
    pub fn create_topics(mut self, create_topics: CreateTopics) -> Self {
        self.create_topics = Some(create_topics);
        self
    }

    /// Sets how long one request to the brokers may take while subscribing, creating a topic, and closing.
    /// Default: 10 s. After that, subscribing fails with
    /// [`Unavailable`](watermill_core::error::SubscribeErrorKind::Unavailable).
    #[must_use]
    pub fn request_timeout(mut self, request_timeout: Duration) -> Self {
        self.request_timeout = request_timeout;
        self
    }

    /// Sets how often a subscription without a group looks for partitions that were added. Default: 30 s.
    /// With a group librdkafka looks, by its option `topic.metadata.refresh.interval.ms`.
    #[must_use]
    pub fn discovery_interval(mut self, discovery_interval: Duration) -> Self {
        self.discovery_interval = discovery_interval;
        self
    }

    /// Sets how often [`lag`](crate::KafkaSubscriber::lag) is measured. Default: 5 s. Zero: as often as health needs it,
    /// four times in a `session.timeout.ms`.
    #[must_use]
    pub fn lag_interval(mut self, lag_interval: Duration) -> Self {
        self.lag_interval = lag_interval;
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
        let mut check = |fine: bool, problem: &str| {
            if !fine {
                problems.push(problem.to_owned());
            }
        };
        check(!self.brokers.trim().is_empty(), "brokers: there are none");
        check(self.group.as_deref() != Some(""), "group: a consumer group needs a name");
        check(!self.group.as_deref().unwrap_or_default().contains('\0'), "group: contains a NUL character");
        check(self.max_ahead > 0, "max_ahead: zero would hand out nothing");
        let commit_interval = self.commits_within(false);
        check(!commit_interval.is_zero(), "commit_interval: zero would commit without a pause");
        check(commit_interval <= COMMIT_INTERVAL_MAX, "commit_interval: more than a minute");
        check(!self.request_timeout.is_zero(), "request_timeout: zero would not wait for any answer");
        check(!self.discovery_interval.is_zero(), "discovery_interval: zero would look without a pause");
        if let Some(topic) = &self.dead_letter_topic
            && let Err(problem) = check_topic(topic)
        {
            check(false, &format!("dead_letter_topic: {problem}"));
        }
        problems.extend(self.create_topics.into_iter().flat_map(CreateTopics::problems));
        ConfigError::check(CLIENT).with(problems).finish()
    }

    /// Whether messages of open and aborted transactions are not read.
    pub(crate) fn reads_committed(&self) -> bool {
        self.options.get("isolation.level").is_none_or(|level| level == "read_committed")
    }

    /// How long the group waits for a member that says nothing.
    pub(crate) fn session_timeout(&self) -> Duration {
        let given = self.options.get("session.timeout.ms").and_then(|ms| ms.trim().parse().ok());
        given.map_or(SESSION_TIMEOUT, Duration::from_millis)
    }

    /// How long an ack may wait; shorter by default where outputs wait with it.
    pub(crate) fn commits_within(&self, with_outputs: bool) -> Duration {
        let default = if with_outputs { COMMIT_INTERVAL_WITH_OUTPUTS } else { COMMIT_INTERVAL };
        self.commit_interval.unwrap_or(default)
    }

    /// As librdkafka takes it, for a client of `group` that reads.
    pub(crate) fn client(&self, group: &str) -> ClientConfig {
        let look_interval = Silence::look_interval(self.session_timeout());
        let lag_interval = Some(self.lag_interval).filter(|interval| !interval.is_zero());
        let statistics_interval = lag_interval.map_or(look_interval, |interval| interval.min(look_interval));
        let mut config = self.scout(group);
        config.set("statistics.interval.ms", statistics_interval.as_millis().max(1).to_string());
        config
    }

    /// The same for a client that asks a few questions.
    pub(crate) fn scout(&self, group: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            // All it says: what is of interest is up to the subscriber of `tracing`.
            .set_log_level(RDKafkaLogLevel::Debug)
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // Latest means a place that is noted at the start; everything that comes into being later, or
            // is found again after retention has passed a position, is read from its beginning.
            .set("auto.offset.reset", "earliest")
            .set("allow.auto.create.topics", "false")
            .set("reconnect.backoff.max.ms", RECONNECT_BACKOFF_MAX_MS)
            // After its queue was full librdkafka would wait for a second before it fetches again.
            .set("fetch.queue.backoff.ms", "10")
            // For each partition; librdkafka's 64 MiB is a lot for a process with a hundred of them.
            .set("queued.max.messages.kbytes", "16384");
        if self.options.get("group.protocol").is_none_or(|protocol| protocol != "consumer") {
            // Members go on with the partitions that they keep while others move.
            config.set("partition.assignment.strategy", "cooperative-sticky");
        }
        self.options.apply(&mut config);
        config
    }
}

impl Default for KafkaSubscriberConfig {
    fn default() -> Self {
        Self {
            brokers: "localhost:9092".to_owned(),
            group: None,
            start: StartPosition::Earliest,
            max_ahead: 10_000,
            commit_interval: None,
            retry: Backoff::default(),
            dead_letter_topic: None,
            create_topics: None,
            request_timeout: Duration::from_secs(10),
            discovery_interval: Duration::from_secs(30),
            lag_interval: Duration::from_secs(5),
            options: Options::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_reported_at_once() {
        assert_eq!(KafkaSubscriberConfig::default().validate(), Ok(()));
        let config = KafkaSubscriberConfig::new("")
            .group("")
            .max_ahead(0)
            .commit_interval(Duration::ZERO)
            .request_timeout(Duration::ZERO)
            .dead_letter_topic("no spaces")
            .create_topics(CreateTopics::new(-2, 0))
            .option("enable.auto.commit", "true");
        let error = config.validate().unwrap_err();
        assert_eq!(error.problems().count(), 9, "{error}");
        assert!(error.to_string().starts_with("configure a Kafka client: "), "{error}");
    }

    #[test]
    fn the_user_has_the_last_word_over_our_defaults() {
        let config = KafkaSubscriberConfig::default().option("fetch.queue.backoff.ms", "50");
        assert_eq!(config.client("g").get("fetch.queue.backoff.ms"), Some("50"));
        assert_eq!(config.client("g").get("reconnect.backoff.max.ms"), Some("1000"), "a broker is back soon");
        let patient = config.clone().option("reconnect.backoff.max.ms", "10000");
        assert_eq!(patient.client("g").get("reconnect.backoff.max.ms"), Some("10000"));
        let config = config.option("group.protocol", "consumer");
        assert_eq!(config.client("g").get("partition.assignment.strategy"), None);
    }

    #[test]
    fn a_client_is_asked_how_it_is_as_often_as_health_needs_it() {
        let interval = |config: KafkaSubscriberConfig| {
            config.client("g").get("statistics.interval.ms").map(str::to_owned)
        };
        let config = KafkaSubscriberConfig::default();
        assert_eq!(interval(config.clone()).as_deref(), Some("5000"));
        assert_eq!(interval(config.clone().lag_interval(Duration::ZERO)).as_deref(), Some("11250"));
        assert_eq!(interval(config.option("session.timeout.ms", "6000")).as_deref(), Some("1500"));
        assert_eq!(KafkaSubscriberConfig::default().scout("g").get("statistics.interval.ms"), None);
    }
}
