//! [`SqlSubscriberConfig`]: plain data, checked as a whole.

use std::time::Duration;

use watermill_core::{Backoff, error::ConfigError};

use super::lease::{SHARDED, VERSION};
use crate::{PayloadColumn, SqlSource, dead_letter::check_topic, shards::Place, source};

/// The width of the column that holds the group on PostgreSQL and MySQL, in characters.
pub(crate) const GROUP_CHARS_MAX: usize = 255;
/// Rows of one fetch are in memory at once.
const BATCH_SIZE_MAX: usize = 10_000;
/// Below this, ordinary delays of a loaded machine look like a dead owner.
const LEASE_MIN: Duration = Duration::from_millis(100);

/// Between what a statement of a reader may take, whatever its lease.
const STATEMENT_MAX: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Below this, a busy process would ask no less often.
const WATCH_INTERVAL_MIN: Duration = Duration::from_millis(4);

/// How an [`SqlSubscriber`](crate::SqlSubscriber) reads.
#[derive(Clone, Debug, PartialEq)]
pub struct SqlSubscriberConfig {
    /// `None` until the database is known, whose default it is then.
    group: Option<String>,
    pub(crate) start: StartPosition,
    pub(crate) batch_size: usize,
    pub(crate) batch_bytes: usize,
    pub(crate) max_ahead: usize,
    pub(crate) poll_interval_min: Duration,
    pub(crate) poll_interval_max: Duration,
    pub(crate) ack_interval: Duration,
    pub(crate) lease: Duration,
    pub(crate) retry: Backoff,
    pub(crate) dead_letter_topic: Option<String>,
    pub(crate) initialize_schema: bool,
    pub(crate) payload_column: Option<PayloadColumn>,
    pub(crate) commit_order: CommitOrder,
    pub(crate) gap_grace: Duration,
    pub(crate) watch: bool,
    pub(crate) watch_interval: Duration,
    pub(crate) source: Option<SqlSource>,
    pub(crate) schema_qualified: bool,
    /// The shard that is read, and not an option.
    pub(crate) shard: Option<Place>,
    /// Whether the group is that of one subscription and ends with it, and not an option.
    pub(crate) ends_with_subscription: bool,
}

/// Where a consumer group that has never read a topic begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartPosition {
    /// With the oldest row of the table.
    #[default]
    Earliest,
    /// After the newest row there is when the group is made, by `initialize` or the first `subscribe`. Rows that
    /// are being written then come after it, however late they commit, unless 10,000 others have committed since
    /// their offsets were drawn.
    Latest,
}

/// How a reader knows on PostgreSQL that no row can come any more before one that it has read.
///
/// Offsets are drawn when rows are inserted, and rows are seen when their transactions commit, so a
/// later offset may be there earlier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommitOrder {
    /// [`LockHolders`](Self::LockHolders) where the table has an index on its offset, as the tables made
    /// here have, and the group was never read by [`Snapshot`](Self::Snapshot) or by Go; otherwise
    /// `Snapshot`.
    #[default]
    Auto,
    /// Reads in the order of offsets, up to where every transaction that wrote to this topic has ended.
    /// Only writers to this topic hold a reader back.
    LockHolders,
    /// Reads in the order of transactions, up to the oldest one that is open: Go's rule, for groups that
    /// Go reads too. Any write transaction that stays open in the whole cluster holds every reader back.
    ///
    /// A transaction comes where it began to write. One that has written something, waits for another to commit, and
    /// then writes its message is before that other, also where both have the same key.
    Snapshot,
}

impl SqlSubscriberConfig {
    /// Sets the consumer group: each group receives every message. Default: what Go's library defaults
    /// to, which on SQLite is `default`, so that both share it.
    ///
    /// On SQLite Go takes no group whose name could not be a topic, the empty one included.
    #[must_use]
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    pub(crate) fn group_or(mut self, default: &str) -> Self {
        self.group.get_or_insert_with(|| default.to_owned());
        self
    }

    pub(crate) fn group_name(&self) -> &str {
        self.group.as_deref().unwrap_or_default()
    }

    /// Sets where a new group begins. Default: [`StartPosition::Earliest`].
    #[must_use]
    pub fn start(mut self, start: StartPosition) -> Self {
        self.start = start;
        self
    }

    /// Sets how many rows one fetch reads, and after how many acks the position is recorded without
    /// waiting for [`ack_interval`](Self::ack_interval). Default: 100. Up to twice as many rows wait in
    /// memory. While handlers have to wait for fetches that come back full, each reads twice as many as the one before,
    /// up to half of [`max_ahead`](Self::max_ahead), until there are no more.
    #[must_use]
    pub fn batch_size(mut self, batch_size: usize) -> Self {
        self.batch_size = batch_size;
        self
    }

    /// Sets how many bytes of messages one fetch brings into memory at most, and one row however large it is. Default:
    /// 16 MiB. Up to twice as many wait in memory, beside what handlers have. When rows do not fit, the rest of a fetch is
    /// broken off with its connection, and the next ones ask for fewer.
    #[must_use]
    pub fn batch_bytes(mut self, batch_bytes: usize) -> Self {
        self.batch_bytes = batch_bytes;
        self
    }

    /// Sets how many rows may be in memory from the oldest unsettled one on, settled ones included.
    /// Default: 1,000. At the bound nothing more is fetched until the oldest is settled. A window
    /// larger than this raises it.
    #[must_use]
    pub fn max_ahead(mut self, max_ahead: usize) -> Self {
        self.max_ahead = max_ahead;
        self
    }

    /// Sets the pause between polls right after something was found. Default: 5 ms.
    #[must_use]
    pub fn poll_interval_min(mut self, poll_interval_min: Duration) -> Self {
        self.poll_interval_min = poll_interval_min;
        self
    }

    /// Sets the pause that polling backs off to while a transaction that is open holds the reader back, while nobody
    /// [watches](Self::watch), and while it stands by. Default: 250 ms, four small queries a second from such a subscription. One that
    /// is watched for polls every 30 s beside that.
    #[must_use]
    pub fn poll_interval_max(mut self, poll_interval_max: Duration) -> Self {
        self.poll_interval_max = poll_interval_max;
        self
    }

    /// Sets how long an ack may wait for others to be recorded with it. Default: 20 ms. What is acked
    /// and not recorded when the process dies is delivered again. `ack_confirmed` does not wait.
    #[must_use]
    pub fn ack_interval(mut self, ack_interval: Duration) -> Self {
        self.ack_interval = ack_interval;
        self
    }

    /// Sets how long an owner that was killed keeps others out. Default: 5 s. It is renewed three
    /// times within that while its owner lives. It bounds, too, how long a statement may take, between 1 s and 30 s.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets the waits between attempts while the database is away, and between looks at a row that
    /// cannot be read as a message. Default: [`Backoff::default`], 100 ms doubling to 30 s.
    #[must_use]
    pub fn retry(mut self, retry: Backoff) -> Self {
        self.retry = retry;
        self
    }

    /// Sets a topic of the same database that rejected messages and unreadable rows are moved to, in
    /// the transaction that advances past them. Default: none. Without one, a rejected message is
    /// passed with an error in the log, and the subscription holds at an unreadable row; so does a
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

    /// Sets of which type the payload column of a missing table is made, here and for dead letters.
    /// Default: what Go's library makes, JSON on PostgreSQL and MySQL, bytes on SQLite. Reading takes
    /// either.
    #[must_use]
    pub fn payload_column(mut self, payload_column: PayloadColumn) -> Self {
        self.payload_column = Some(payload_column);
        self
    }

    /// Sets how rows that commit late are waited for, on PostgreSQL. Default: [`CommitOrder::Auto`].
    /// Choose [`CommitOrder::Snapshot`] for a group that a Go reader is to take over.
    #[must_use]
    pub fn commit_order(mut self, commit_order: CommitOrder) -> Self {
        self.commit_order = commit_order;
        self
    }

    /// Sets how far apart a missing offset must be found empty twice before it is passed, on MySQL and
    /// MariaDB, where the account cannot see the statements of others (the `PROCESS` privilege).
    /// Default: 100 ms. A statement that takes longer between drawing an offset and inserting its row
    /// would be skipped. With the privilege nothing depends on time.
    #[must_use]
    pub fn gap_grace(mut self, gap_grace: Duration) -> Self {
        self.gap_grace = gap_grace;
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

    /// Sets how often the watch asks while nothing happens. Default: 20 ms, 50 small questions a second from a process,
    /// however many subscriptions it has. A topic that had messages lately is asked about more often, after a two-hundredth
    /// of the time for which it has been quiet, down to 4 ms; where the database takes long to answer, four times as long
    /// passes before the next question. Of several subscriptions over a pool the shortest interval counts.
    #[must_use]
    pub fn watch_interval(mut self, watch_interval: Duration) -> Self {
        self.watch_interval = watch_interval;
        self
    }

    /// Sets a table that is not one of Watermill's, to be read as a log. Default: none, topics are tables of ours.
    /// With one, the subscriber has no other topic than [its](SqlSource::topic).
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

    /// The same for a shard of the group.
    pub(crate) fn for_shard(self, group: String, shard: Place) -> Self {
        Self { shard: Some(shard), ..self.group(group) }
    }

    /// Whether whoever claims the lease gives the group a position where it has none. A shard's comes into being with the
    /// plan or with its generation, and who claims it late, when that is over, must not make it anew: nobody would read
    /// there, and retention would keep everything for it. That of a subscription comes into being with it: where it has gone
    /// since, there may be messages that nobody has read.
    pub(crate) fn makes_group(&self) -> bool {
        self.shard.is_none() && !self.ends_with_subscription
    }

    /// For a group that is one subscription's.
    pub(crate) fn ends_with_subscription(mut self) -> Self {
        self.ends_with_subscription = true;
        self
    }

    /// The groups of the other shards of the same generation, where a shard is read.
    #[cfg(feature = "mysql")]
    pub(crate) fn other_shards(&self) -> Vec<String> {
        let Some(Place { shards, number, .. }) = self.shard else { return Vec::new() };
        let Some((generation, _)) = self.group_name().rsplit_once('/') else { return Vec::new() };
        (0..shards).filter(|other| *other != number).map(|other| format!("{generation}/{other}")).collect()
    }

    /// What a claim writes of itself.
    #[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
    pub(crate) fn lease_version(&self) -> i64 {
        if self.shard.is_some() { SHARDED } else { VERSION }
    }

    /// How long the database may take to answer a reader that fetches.
    pub(crate) fn statement_max(&self) -> Duration {
        self.lease.clamp(STATEMENT_MAX.0, STATEMENT_MAX.1)
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
        check(self.group_name().chars().count() <= GROUP_CHARS_MAX, "group: longer than 255 characters");
        check(!self.group_name().contains('\0'), "group: contains a NUL character");
        check(self.batch_size > 0, "batch_size: zero would read nothing");
        check(self.batch_size <= BATCH_SIZE_MAX, "batch_size: more than 10,000 rows at once");
        check(self.batch_bytes > 0, "batch_bytes: zero would read one row at a time");
        check(self.max_ahead >= self.batch_size, "max_ahead: less than batch_size");
        check(!self.poll_interval_min.is_zero(), "poll_interval_min: zero would poll without a pause");
        check(self.watch_interval >= WATCH_INTERVAL_MIN, "watch_interval: less than 4 ms");
        check(
            self.poll_interval_max >= self.poll_interval_min,
            "poll_interval_max: less than poll_interval_min",
        );
        check(self.lease >= LEASE_MIN, "lease: less than 100 ms");
        check(self.lease <= Duration::from_secs(3600), "lease: more than an hour");
        check(!self.gap_grace.is_zero(), "gap_grace: zero would pass rows that are being written");
        check(self.ack_interval < self.lease, "ack_interval: not less than the lease");
        if let Err(problem) = check_topic(self.dead_letter_topic.as_deref(), self.schema_qualified) {
            check(false, &problem);
        }
        for problem in self.source.iter().flat_map(source::problems) {
            check(false, &problem);
        }
        ConfigError::check("configure the SQL subscriber").with(problems).finish()
    }
}

impl Default for SqlSubscriberConfig {
    fn default() -> Self {
        Self {
            group: None,
            start: StartPosition::Earliest,
            batch_size: 100,
            batch_bytes: 16 * 1024 * 1024,
            max_ahead: 1_000,
            poll_interval_min: Duration::from_millis(5),
            poll_interval_max: Duration::from_millis(250),
            ack_interval: Duration::from_millis(20),
            lease: Duration::from_secs(5),
            retry: Backoff::default(),
            dead_letter_topic: None,
            initialize_schema: true,
            payload_column: None,
            commit_order: CommitOrder::Auto,
            gap_grace: Duration::from_millis(100),
            watch: true,
            watch_interval: Duration::from_millis(20),
            source: None,
            schema_qualified: false,
            shard: None,
            ends_with_subscription: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(SqlSubscriberConfig::default().validate(), Ok(()));
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let config = SqlSubscriberConfig::default()
            .group("g".repeat(256))
            .batch_size(0)
            .poll_interval_min(Duration::ZERO)
            .lease(Duration::ZERO)
            .dead_letter_topic("no spaces");
        let error = config.validate().unwrap_err();
        let options: Vec<_> = error.problems().map(|p| p.split(':').next().unwrap()).collect();
        assert_eq!(
            options,
            ["group", "batch_size", "poll_interval_min", "lease", "ack_interval", "dead_letter_topic"]
        );
    }
}
