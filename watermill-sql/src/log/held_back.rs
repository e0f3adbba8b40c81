//! [`HeldBack`]: a reader that waits for somebody else's transaction, and says for whose.

use std::{fmt, time::Duration};

/// A subscription that cannot read on, because rows that are still being written by others belong
/// before those that are there. It goes on by itself when their transactions end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldBack {
    /// The topic.
    pub topic: String,
    /// The consumer group.
    pub group: String,
    /// Who holds it back, as the database names it: `backend 4711`, with the process id that
    /// `pg_terminate_backend` or `KILL` takes.
    pub holder: String,
    /// The age of the holder's transaction where the database tells it, and otherwise for how long it has
    /// held this reader back.
    pub age: Duration,
}

/// Who holds a reader back, at one look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// For people.
    pub(crate) name: String,
    /// The age of its transaction, if that is known.
    pub(crate) age: Option<Duration>,
}

impl fmt::Display for HeldBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "held back by {}, whose transaction is {:.1} s old", self.holder, self.age.as_secs_f64())
    }
}
