//! [`HeldBack`]: a reader that waits for somebody else's transaction, and says for whose.

use std::{fmt, time::Duration};

use tokio::time::Instant;

/// A subscription that cannot read on, because rows that are still being written by others belong
/// before those that are there. It goes on by itself when their transactions end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldBack {
    /// The topic.
    pub topic: String,
    /// The consumer group.
    pub group: String,
    /// Who holds it back, for people: `backend 4711`. Of several the oldest, once it is worth asking.
    pub holder: String,
    /// The number that `pg_terminate_backend` or `KILL` takes, where the holder has one: a transaction that was
    /// prepared has none, and the server may not show it.
    pub id: Option<i64>,
    /// The age of the holder's own transaction where the database tells it, and otherwise as `waited`.
    pub age: Duration,
    /// For how long this reader has not got on.
    pub waited: Duration,
}

/// Who holds a reader back, at one look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// For people.
    pub(crate) name: String,
    /// For the database.
    pub(crate) id: Option<i64>,
    /// The age of its transaction, if that is known.
    pub(crate) age: Option<Duration>,
    /// Since when the reader waits for what it waits for now.
    pub(crate) since: Instant,
}

impl fmt::Display for HeldBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (age, waited) = (self.age.as_secs_f64(), self.waited.as_secs_f64());
        write!(f, "held back for {waited:.1} s by {}, whose transaction is {age:.1} s old", self.holder)
    }
}
