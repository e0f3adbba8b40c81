//! [`SqlQueueSubscriberConfig`]: plain data, checked as a whole.

use std::time::Duration;

use watermill_core::{Backoff, error::ConfigError};

use crate::{PayloadColumn, SqlSource, dead_letter::check_topic, source};

/// Rows of one claim are in memory at once, and their numbers in one statement.
const BATCH_SIZE_MAX: usize = 1_000;
/// Below this, ordinary delays of a loaded machine look like a dead worker.
const VISIBILITY_TIMEOUT_MIN: Duration = Duration::from_millis(300);
const VISIBILITY_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);

/// Between what a statement of a worker may take, whatever its visibility timeout.
const STATEMENT_MAX: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Below this, a busy process would ask no less often.
const WATCH_INTERVAL_MIN: Duration = Duration::from_millis(4);

/// How an [`SqlQueueSubscriber`](crate::SqlQueueSubscriber) works on its queue.
#[derive(Clone, Debug, PartialEq)]
pub struct SqlQueueSubscriberConfig {
    pub(crate) visibility_timeout: Duration,
    pub(crate) ordered_by_key: bool,
    pub(crate) on_ack: OnAck,
    pub(crate) batch_size: usize,
    pub(crate) batch_bytes: usize,
    pub(crate) poll_interval_min: Duration,
    pub(crate) poll_interval_max: Duration,
    pub(crate) ack_interval: Duration,
    pub(crate) retry: Backoff,
    pub(crate) dead_letter_topic: Option<String>,
    pub(crate) initialize_schema: bool,
    pub(crate) schema_timeout: Duration,
    pub(crate) payload_column: Option<PayloadColumn>,
    pub(crate) watch: bool,
    pub(crate) watch_interval: Duration,
    pub(crate) source: Option<SqlSource>,
    pub(crate) schema_qualified: bool,
}

/// What an ack does to a message's row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnAck {
    /// The row is deleted.
    #[default]
    Delete,
    /// The row stays, with `acked` set. Nothing deletes it but you, or
    /// [`SqlRetention`](crate::SqlRetention).
    Mark,
}

impl SqlQueueSubscriberConfig {
    /// Sets how long a message stays out of sight of other workers after its worker has died.
    /// Default: 30 s. It is renewed three times within that while its worker lives, however long the
    /// handler takes. It bounds, too, how long a statement may take, between 1 s and 30 s.
    #[must_use]
    pub fn visibility_timeout(mut self, visibility_timeout: Duration) -> Self {
        self.visibility_timeout = visibility_timeout;
        self
    }

    /// Whether the messages of one [key](watermill_core::Message::key) are handled one after another, in the order of
    /// their offsets, by whichever worker takes them. Default: false, and every message is for itself. A message that
    /// is delayed, nacked or in a worker's hand holds back the later ones of its key, whatever the window; other keys,
    /// and messages without one, go on.
    ///
    /// It is a property of the table, which gets two columns more: all workers on a queue have the same, or are refused.
    /// Publishers need not know. Stop the workers that do without before the first one with it begins.
    #[must_use]
    pub fn ordered_by_key(mut self, ordered_by_key: bool) -> Self {
        self.ordered_by_key = ordered_by_key;
        self
    }

    /// Sets what an ack does to the row. Default: [`OnAck::Delete`].
    #[must_use]
    pub fn on_ack(mut self, on_ack: OnAck) -> Self {
        self.on_ack = on_ack;
        self
    }

    /// Sets how many rows one statement claims at most, and after how many outcomes they are recorded
    /// without waiting for [`ack_interval`](Self::ack_interval). Default: 100. Beyond the window, so
    /// many are claimed ahead at most; fewer, down to one, while handlers are slow, so that no message
    /// waits for a busy worker while another is idle.
    #[must_use]
    pub fn batch_size(mut self, batch_size: usize) -> Self {
        self.batch_size = batch_size;
        self
    }

    /// Sets how many bytes of messages one statement claims at most, and one row however large it is. Default: 16 MiB.
    /// Up to twice as many wait in memory, beside what handlers have. What a database has compressed below 256 bytes
    /// counts as that.
    #[must_use]
    pub fn batch_bytes(mut self, batch_bytes: usize) -> Self {
        self.batch_bytes = batch_bytes;
        self
    }

    /// Sets the pause between polls right after something was found. Default: 5 ms.
    #[must_use]
    pub fn poll_interval_min(mut self, poll_interval_min: Duration) -> Self {
        self.poll_interval_min = poll_interval_min;
        self
    }

    /// Sets the pause that polling backs off to while nobody [watches](Self::watch), and how often the watch asks for all
    /// queues of a process whether anything is due. Default: 250 ms. A subscription that is watched for polls every 30 s beside that. A
    /// message that becomes due is not waited for by polling: its time is known.
    #[must_use]
    pub fn poll_interval_max(mut self, poll_interval_max: Duration) -> Self {
        self.poll_interval_max = poll_interval_max;
        self
    }

    /// Sets how long an outcome may wait for others to be recorded with it. Default: 20 ms. What is
    /// acked and not recorded when the process dies is delivered again. `ack_confirmed` does not wait.
    #[must_use]
    pub fn ack_interval(mut self, ack_interval: Duration) -> Self {
        self.ack_interval = ack_interval;
        self
    }

    /// Sets the waits between attempts while the database is away, and before a row comes again that
    /// cannot be read as a message. Default: [`Backoff::default`], 100 ms doubling to 30 s.
    #[must_use]
    pub fn retry(mut self, retry: Backoff) -> Self {
        self.retry = retry;
        self
    }

    /// Sets a topic of the same database, a queue too, that rejected messages and unreadable rows are
    /// moved to, in one transaction. Default: none. Without one, a rejected message is done with, with
    /// an error in the log, and an unreadable row comes again and again, ever less often; so it is for a
    /// subscription to that topic itself.
    #[must_use]
    pub fn dead_letter_topic(mut self, topic: impl Into<String>) -> Self {
        self.dead_letter_topic = Some(topic.into());
        self
    }

    /// Whether missing tables are created by `subscribe` and `initialize`. Default: true. Turned off,
    /// subscribing to a missing table fails and nothing is created.
    #[must_use]
    pub fn initialize_schema(mut self, initialize_schema: bool) -> Self {
        self.initialize_schema = initialize_schema;
        self
    }

    /// Sets how long the database may take to change a queue that is there: to put it in [order](Self::ordered_by_key), or
    /// to add the columns that one of Go's lacks. Default: 1 hour.
    ///
    /// The change takes longer the more rows there are: MySQL and PostgreSQL write every row anew, SQLite makes two indexes.
    /// Nobody writes to the queue meanwhile, and on PostgreSQL nobody reads it, and logs on the same server stand still. After this time `subscribe` and `initialize` fail, as they do when the
    /// server itself ends the statement. The server may go on with it, and whoever calls again waits for that. Call `initialize`
    /// where you migrate, so that no start has to wait. For others that have the table locked nobody is kept waiting longer than
    /// 10 s, and on SQLite than the connection's `busy_timeout`.
    #[must_use]
    pub fn schema_timeout(mut self, schema_timeout: Duration) -> Self {
        self.schema_timeout = schema_timeout;
        self
    }

    /// Sets of which type the payload column of a missing table is made, here and for dead letters.
    /// Default: what Go's library makes, JSON on PostgreSQL and MySQL, bytes on SQLite. Reading takes
    /// either.
    #[must_use]
    pub fn payload_column(mut self, payload_column: PayloadColumn) -> Self {
        self.payload_column = Some(payload_column);
        self
    }

    /// Whether this process watches for what others publish: one connection of its own for all subscriptions over a
    /// pool asks about all their topics at once, every [`watch_interval`](Self::watch_interval), without a lock that a
    /// writer waits for, and behind any pooler. Default: true. Turned off, each subscription polls, and finds rows of other
    /// processes within [`poll_interval_max`](Self::poll_interval_max).
    #[must_use]
    pub fn watch(mut self, watch: bool) -> Self {
        self.watch = watch;
        self
    }

    /// Sets how often the watch asks while nothing happens, as for
    /// [logs](crate::SqlSubscriberConfig::watch_interval). Default: 20 ms. Every
    /// [`poll_interval_max`](Self::poll_interval_max) it asks, too, whether messages are due that others have given back.
    #[must_use]
    pub fn watch_interval(mut self, watch_interval: Duration) -> Self {
        self.watch_interval = watch_interval;
        self
    }

    /// Sets a table that is not one of Watermill's, to be worked on as a queue. Default: none, topics are tables of ours.
    /// With one, the subscriber has no other topic than [its](SqlSource::topic), and what an ack does is said
    /// [there](SqlSource::after_ack), not by [`on_ack`](Self::on_ack).
    #[must_use]
    pub fn source(mut self, source: SqlSource) -> Self {
        self.source = Some(source);
        self
    }

    /// Whether a topic may name the schema of its tables, on PostgreSQL: `billing.orders`, or `[billing].orders` for one
    /// with dots in its name, is then in the table `watermill_orders` of the schema `billing`, which is made with it.
    /// Default: false, and a dot is a part of the table's name.
    /// It holds for the dead-letter topic too.
    #[must_use]
    pub fn schema_qualified(mut self, schema_qualified: bool) -> Self {
        self.schema_qualified = schema_qualified;
        self
    }

    /// How long the database may take to answer a claim.
    pub(crate) fn statement_max(&self) -> Duration {
        self.visibility_timeout.clamp(STATEMENT_MAX.0, STATEMENT_MAX.1)
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
        check(
            self.visibility_timeout >= VISIBILITY_TIMEOUT_MIN,
            "visibility_timeout: less than 300 ms, which a busy machine takes for a dead worker",
        );
        check(self.visibility_timeout <= VISIBILITY_TIMEOUT_MAX, "visibility_timeout: more than a day");
        check(self.batch_size > 0, "batch_size: zero would claim nothing");
        check(self.batch_size <= BATCH_SIZE_MAX, "batch_size: more than 1,000 rows at once");
        check(!self.schema_timeout.is_zero(), "schema_timeout: zero would change no table");
        check(self.batch_bytes > 0, "batch_bytes: zero would claim one row at a time");
        check(!self.poll_interval_min.is_zero(), "poll_interval_min: zero would poll without a pause");
        check(self.watch_interval >= WATCH_INTERVAL_MIN, "watch_interval: less than 4 ms");
        check(
            self.poll_interval_max >= self.poll_interval_min,
            "poll_interval_max: less than poll_interval_min",
        );
        check(
            self.ack_interval < self.visibility_timeout,
            "ack_interval: not less than the visibility timeout",
        );
        if let Err(problem) = check_topic(self.dead_letter_topic.as_deref(), self.schema_qualified) {
            check(false, &problem);
        }
        check(
            self.source.is_none() || !self.ordered_by_key,
            "ordered_by_key: a table that is not ours is a queue without order: read it as a log, in the order of a column \
             that counts up (SqlSubscriberConfig::source), with a router's ordered_by_key if keys are to go on side by side",
        );
        for problem in self.source.iter().flat_map(source::problems) {
            check(false, &problem);
        }
        ConfigError::check("configure the SQL queue subscriber").with(problems).finish()
    }
}

impl Default for SqlQueueSubscriberConfig {
    fn default() -> Self {
        Self {
            visibility_timeout: Duration::from_secs(30),
            ordered_by_key: false,
            on_ack: OnAck::Delete,
            batch_size: 100,
            batch_bytes: 16 * 1024 * 1024,
            poll_interval_min: Duration::from_millis(5),
            poll_interval_max: Duration::from_millis(250),
            ack_interval: Duration::from_millis(20),
            retry: Backoff::default(),
            dead_letter_topic: None,
            initialize_schema: true,
            schema_timeout: Duration::from_secs(3600),
            payload_column: None,
            watch: true,
            watch_interval: Duration::from_millis(20),
            source: None,
            schema_qualified: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(SqlQueueSubscriberConfig::default().validate(), Ok(()));
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let config = SqlQueueSubscriberConfig::default()
            .visibility_timeout(Duration::ZERO)
            .batch_size(1_001)
            .poll_interval_max(Duration::ZERO)
            .dead_letter_topic("no spaces");
        let error = config.validate().unwrap_err();
        let options: Vec<_> = error.problems().map(|p| p.split(':').next().unwrap()).collect();
        assert_eq!(
            options,
            ["visibility_timeout", "batch_size", "poll_interval_max", "ack_interval", "dead_letter_topic"]
        );
    }
}
