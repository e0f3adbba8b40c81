//! [`SqlInboxConfig`]: plain data, checked as a whole.

use std::time::Duration;

use watermill_core::{Backoff, error::ConfigError};

use crate::SqlPublisherConfig;

/// The longest name of a consumer, in bytes.
const CONSUMER_BYTES_MAX: usize = 255;
/// More marks in one transaction would be in the way of those that are being written.
const BATCH_SIZE_MAX: usize = 10_000;

/// How an [`SqlInbox`](crate::SqlInbox) marks messages, runs their steps and forgets its marks.
#[derive(Clone, Debug, PartialEq)]
pub struct SqlInboxConfig {
    pub(crate) consumer: Option<String>,
    pub(crate) across_topics: bool,
    pub(crate) on_duplicate: OnDuplicate,
    pub(crate) joins_ack: bool,
    pub(crate) isolation: Isolation,
    pub(crate) runs: u32,
    pub(crate) backoff: Backoff,
    pub(crate) publishing: SqlPublisherConfig,
    pub(crate) initialize_schema: bool,
    pub(crate) timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) keep_for: Duration,
    pub(crate) batch_size: usize,
    pub(crate) pause: Duration,
    pub(crate) interval: Duration,
}

/// What becomes of a message that is marked already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnDuplicate {
    /// It is acked, and its handler does not run.
    #[default]
    Skip,
    /// Its handler runs, in a transaction of its own, and asks [`Tx::is_duplicate`](crate::Tx::is_duplicate). What it
    /// writes and publishes is committed.
    Tell,
}

/// The isolation of the transaction. SQLite has one, which is serializable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Isolation {
    /// What the session has: read committed on PostgreSQL, repeatable read on MySQL and MariaDB, unless somebody has set
    /// another.
    #[default]
    Session,
    /// Each statement sees what is committed when it begins.
    ReadCommitted,
    /// All statements see what was committed when the first one began.
    RepeatableRead,
    /// As if there were no other transaction.
    Serializable,
}

impl SqlInboxConfig {
    /// Sets under which name messages are marked. Default: that of the handler, which is unique in its router. Two handlers,
    /// in however many processes, that have one name between them handle each message once between them; with two names,
    /// each handles it.
    ///
    /// Set it where a handler may be renamed one day: under another name nothing is marked.
    #[must_use]
    pub fn consumer(mut self, consumer: impl Into<String>) -> Self {
        self.consumer = Some(consumer.into());
        self
    }

    /// Whether messages with one id are the same whatever topic they come from. Default: false, because ids are unique in
    /// their topic at best, and a message that is taken for another is lost. Turned on, a message that is moved to another
    /// topic of the same consumer is not handled again there.
    #[must_use]
    pub fn across_topics(mut self, across_topics: bool) -> Self {
        self.across_topics = across_topics;
        self
    }

    /// Sets what becomes of a message that is marked already. Default: [`OnDuplicate::Skip`].
    #[must_use]
    pub fn on_duplicate(mut self, on_duplicate: OnDuplicate) -> Self {
        self.on_duplicate = on_duplicate;
        self
    }

    /// Whether the ack is part of the transaction, instead of a mark. Default: false. For messages whose table is in the same
    /// database, so that each is done or comes again, and there is nothing to be remembered about it:
    ///
    /// - Of an [`SqlSubscriber`](crate::SqlSubscriber) the group's position moves with the commit, or the message is noted as
    ///   done ahead of it, under the lease of its reader. Handlers may run side by side; the last two statements of
    ///   their transactions run one after another.
    /// - Of an [`SqlQueueSubscriber`](crate::SqlQueueSubscriber) without order by key, the row of the message is deleted, or
    ///   marked as acked.
    ///
    /// A message that comes from anywhere else is nacked, with the reason. So is one of a log where the
    /// [isolation](Self::isolation) is above read committed on PostgreSQL, or repeatable read on MySQL and MariaDB: its lease is
    /// renewed while the step runs, and such a transaction cannot go on behind that. Where no isolation is set, those of a
    /// log are read committed. Keep a mark where a step needs more.
    ///
    /// A mark does more where one message was published twice, by a relay for instance: two rows with one id are two
    /// messages then, and with a mark the second is a duplicate. It is also what knows a message again after somebody has
    /// set a group's position back, or where readers of Go take turns in a group, which know of nothing that is done ahead.
    #[must_use]
    pub fn joins_ack(mut self, joins_ack: bool) -> Self {
        self.joins_ack = joins_ack;
        self
    }

    /// Sets the isolation of the transactions. Default: [`Isolation::Session`].
    #[must_use]
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// Sets how often a step is run in all, where a deadlock or a failed serialization has rolled it back. Default: 5. The last
    /// failure is the handler's, and goes to its policy.
    #[must_use]
    pub fn runs(mut self, runs: u32) -> Self {
        self.runs = runs;
        self
    }

    /// Sets the waits between those runs. Default: from 5 ms on, up to 200 ms.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets how outputs are published: layout, payload column, schema. Default: [`SqlPublisherConfig::default`]. Its
    /// `initialize_schema` says whether missing tables are made; on MySQL, where that would end the transaction, the step
    /// is rolled back for it and run again.
    #[must_use]
    pub fn publishing(mut self, publishing: SqlPublisherConfig) -> Self {
        self.publishing = publishing;
        self
    }

    /// Whether the table of marks is created when it is missing. Default: true.
    #[must_use]
    pub fn initialize_schema(mut self, initialize_schema: bool) -> Self {
        self.initialize_schema = initialize_schema;
        self
    }

    /// Sets how long the database may take for each statement of ours: to begin and mark (which waits for another
    /// transaction that has the same message in hand), to publish, to commit. Default: 30 s. Then the step fails, its
    /// connection is closed, and the message is nacked. An ack of a log that is part of the transaction is written within half
    /// of the lease, and the commit waited for as long as the lease, where that is shorter: its renewals wait behind them.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how long a handler may leave its transaction without a statement, before PostgreSQL rolls it back; so that a
    /// process that is stopped or cut off does not hold its locks for ever. Default: 5 minutes. The other databases end such a
    /// connection by their own settings (`wait_timeout`). Behind an ack of a log that is part of the transaction, the length of
    /// its lease counts instead, on MySQL and MariaDB too.
    #[must_use]
    pub fn idle_timeout(mut self, idle_timeout: Duration) -> Self {
        self.idle_timeout = idle_timeout;
        self
    }

    /// Sets for how long marks are kept. Default: 14 days. It has to be longer than a message can take to come again: the
    /// retention of the source, or the time that a relay may stand still.
    #[must_use]
    pub fn keep_for(mut self, keep_for: Duration) -> Self {
        self.keep_for = keep_for;
        self
    }

    /// Sets how many marks one transaction deletes at most. Default: 1,000.
    #[must_use]
    pub fn batch_size(mut self, batch_size: usize) -> Self {
        self.batch_size = batch_size;
        self
    }

    /// Sets the pause between two such transactions. Default: 20 ms.
    #[must_use]
    pub fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// Sets how often old marks are looked for, where the inbox is a router's plugin. Default: once a minute.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with every problem there is.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let consumer = match &self.consumer {
            Some(consumer) if consumer.is_empty() => Some("consumer: a name is not empty".to_owned()),
            Some(consumer) if consumer.len() > CONSUMER_BYTES_MAX => {
                Some(format!("consumer: a name has at most {CONSUMER_BYTES_MAX} bytes"))
            }
            _ => None,
        };
        let zero =
            [("timeout", self.timeout), ("idle_timeout", self.idle_timeout), ("interval", self.interval)];
        let zero = zero.into_iter().filter(|(_, time)| time.is_zero());
        let mut check =
            ConfigError::check("configure the inbox")
                .with(consumer)
                .with((self.runs == 0).then(|| "runs: zero would run nothing".to_owned()))
                .with((!(1..=BATCH_SIZE_MAX).contains(&self.batch_size)).then(|| {
                    format!("batch_size: between 1 and {BATCH_SIZE_MAX}, and not {}", self.batch_size)
                }));
        for (name, _) in zero {
            check = check.with(Some(format!("{name}: zero is no time")));
        }
        check = check.with(self.publishing.validate().err().map(|error| format!("publishing: {error}")));
        check.finish()
    }
}

impl Default for SqlInboxConfig {
    fn default() -> Self {
        Self {
            consumer: None,
            across_topics: false,
            on_duplicate: OnDuplicate::default(),
            joins_ack: false,
            isolation: Isolation::default(),
            runs: 5,
            backoff: Backoff::exponential(Duration::from_millis(5)).max(Duration::from_millis(200)),
            publishing: SqlPublisherConfig::default(),
            initialize_schema: true,
            timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(300),
            keep_for: Duration::from_secs(14 * 24 * 3600),
            batch_size: 1_000,
            pause: Duration::from_millis(20),
            interval: Duration::from_secs(60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_reported() {
        assert_eq!(SqlInboxConfig::default().validate(), Ok(()));
        let wrong = SqlInboxConfig::default().consumer("").runs(0).batch_size(0).timeout(Duration::ZERO);
        let error = wrong.validate().unwrap_err().to_string();
        for option in ["consumer", "runs", "batch_size", "timeout"] {
            assert!(error.contains(option), "{error}");
        }
    }
}
