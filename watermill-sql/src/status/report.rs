//! What is reported.

use std::time::{Duration, SystemTime};

use watermill_core::Message;

/// A topic that is a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogStatus {
    /// Its consumer groups, ours and Go's, by name.
    pub groups: Vec<GroupStatus>,
    /// Whose transactions are open that write to it, and so may hold its readers back; the oldest first. MySQL and
    /// MariaDB do not tell to which table, so there they are those of the whole server, and none where the account
    /// may not see them.
    pub writers: Vec<WriterStatus>,
}

/// A consumer group of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupStatus {
    /// Its name.
    pub group: String,
    /// The number of the shard that this is about, of a group that reads in shards: it has an entry for each, and behind
    /// the position of each there are also rows of the others.
    pub shard: Option<u32>,
    /// Everything up to this offset is done; what is done beyond it does not count.
    pub position: i64,
    /// How many rows are behind its position.
    pub backlog: Count,
    /// How old the first of those is.
    pub oldest_unread: Option<Duration>,
    /// Who reads for it; `None` when nobody does, or a Go reader.
    pub owner: Option<OwnerStatus>,
}

/// Who has a group's lease.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OwnerStatus {
    /// The name of the subscription.
    pub owner: String,
    /// How much longer, unless it renews the lease.
    pub remaining: Duration,
}

/// A transaction that writes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriterStatus {
    /// The number that `pg_terminate_backend` or `KILL` takes.
    pub id: i64,
    /// The application on PostgreSQL, the account elsewhere.
    pub application: Option<String>,
    /// How old the transaction is.
    pub age: Option<Duration>,
    /// How long ago its last statement began.
    pub query_age: Option<Duration>,
}

/// A topic that is a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStatus {
    /// Messages that a worker may take.
    pub due: Count,
    /// Messages that wait for an earlier one of their key, where the queue is in order by key.
    pub behind: Count,
    /// Messages that wait for a time: delayed, or nacked.
    pub delayed: Count,
    /// Messages that workers have.
    pub in_hand: Count,
    /// How long ago the first message of the queue was written that no worker has had yet, delayed ones left out.
    pub oldest_unclaimed: Option<Duration>,
    /// Messages in the dead-letter topic that was named.
    pub dead: Option<Count>,
}

/// How many rows there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Count {
    /// So many.
    pub rows: u64,
    /// Whether they were counted. More than 10,000 are not: then it is what the offsets of a log say, some of which were
    /// never written, and of a queue at least so many.
    pub is_exact: bool,
}

/// A row that was looked at.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PeekedMessage {
    /// Its offset.
    pub offset: i64,
    /// When it was written.
    pub published_at: Option<SystemTime>,
    /// The message, or what can be kept of a row that is none.
    pub message: Message,
    /// Why the row is no message.
    pub unreadable: Option<String>,
}
