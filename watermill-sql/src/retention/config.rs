//! [`SqlRetentionConfig`]: plain data, checked as a whole.

use std::time::Duration;

use watermill_core::error::ConfigError;

use crate::topic;

/// More rows in one transaction hold readers back for longer than they notice.
const BATCH_SIZE_MAX: usize = 10_000;
/// What every database can subtract from now.
const KEEP_FOR_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// What an [`SqlRetention`](crate::SqlRetention) deletes, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct SqlRetentionConfig {
    pub(crate) keep_for: Duration,
    pub(crate) without_groups: bool,
    pub(crate) batch_size: usize,
    pub(crate) pause: Duration,
    pub(crate) topics: Vec<String>,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) schema_qualified: bool,
}

impl SqlRetentionConfig {
    /// Sets how old a row must be, counted from its `created_at`, before it is deleted. Default: 7 days.
    /// Zero deletes what every group has read.
    #[must_use]
    pub fn keep_for(mut self, keep_for: Duration) -> Self {
        self.keep_for = keep_for;
        self
    }

    /// Whether rows of a log that has no consumer group are deleted when they are old. Default: false,
    /// because nobody has read them.
    #[must_use]
    pub fn without_groups(mut self, without_groups: bool) -> Self {
        self.without_groups = without_groups;
        self
    }

    /// Sets how many rows one transaction looks at, and deletes at most. Default: 1,000. While it runs,
    /// some milliseconds, readers on PostgreSQL wait for it as they do for a publisher.
    #[must_use]
    pub fn batch_size(mut self, batch_size: usize) -> Self {
        self.batch_size = batch_size;
        self
    }

    /// Sets the pause between two such transactions, which leaves the database to others. Default: 20 ms.
    #[must_use]
    pub fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// Sets the topics that the router's plugin looks after. Default: none.
    #[must_use]
    pub fn topics<T: Into<String>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.topics = topics.into_iter().map(Into::into).collect();
        self
    }

    /// Sets how often the router's plugin looks at each topic. Default: once a minute.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sets how long the database may take for a batch. Default: 1 minute. A run that meets one that takes longer
    /// fails, and its connection is closed; the batch may be deleted nevertheless.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Whether a topic may name the schema of its tables, on PostgreSQL: `billing.orders`, or `[billing].orders` for one
    /// with dots in its name, is then in the table `watermill_orders` of the schema `billing`, which is made with it.
    /// Default: false, and a dot is a part of the table's name.
    #[must_use]
    pub fn schema_qualified(mut self, schema_qualified: bool) -> Self {
        self.schema_qualified = schema_qualified;
        self
    }

    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with every problem there is.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        let mut check = |fine: bool, problem: &str| {
            if !fine {
                problems.push(problem.to_owned());
            }
        };
        check(self.keep_for <= KEEP_FOR_MAX, "keep_for: more than a hundred years");
        check(self.batch_size > 0, "batch_size: zero would delete nothing");
        check(self.batch_size <= BATCH_SIZE_MAX, "batch_size: more than 10,000 rows in one transaction");
        check(!self.interval.is_zero(), "interval: zero would look without a pause");
        check(!self.timeout.is_zero(), "timeout: zero would delete nothing");
        for topic in &self.topics {
            if let Err(problem) = topic::check_name(topic, self.schema_qualified) {
                check(false, &format!("topics: {problem}"));
            }
        }
        ConfigError::check("configure the SQL retention").with(problems).finish()
    }
}

impl Default for SqlRetentionConfig {
    fn default() -> Self {
        Self {
            keep_for: Duration::from_secs(7 * 24 * 3600),
            without_groups: false,
            batch_size: 1_000,
            pause: Duration::from_millis(20),
            topics: Vec::new(),
            interval: Duration::from_secs(60),
            timeout: Duration::from_secs(60),
            schema_qualified: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(SqlRetentionConfig::default().validate(), Ok(()));
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let config = SqlRetentionConfig::default()
            .keep_for(Duration::MAX)
            .batch_size(0)
            .interval(Duration::ZERO)
            .timeout(Duration::ZERO)
            .topics(["fine", "no spaces"]);
        let error = config.validate().unwrap_err();
        let options: Vec<_> = error.problems().map(|p| p.split(':').next().unwrap()).collect();
        assert_eq!(options, ["keep_for", "batch_size", "interval", "timeout", "topics"]);
    }
}
