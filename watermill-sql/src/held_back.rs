//! [`HeldBack`]: a reader that waits for somebody else's transaction, and says for whose.

use std::{fmt, time::Duration};

use tokio::time::Instant;
use watermill_core::backend::Shared;

use crate::ledger::LogLedger;

/// How long a reader is held back before it says so, and by how much it waits longer each time.
const PATIENCE: Duration = Duration::from_secs(1);

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

/// A reader's account of it.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    since: Option<Instant>,
    warn_after: Duration,
}

impl Waiting {
    /// Takes note of what a fetch found: sets the gauge, and warns when it lasts.
    pub(crate) fn note(
        &mut self,
        shared: &Shared<LogLedger>,
        topic: &str,
        group: &str,
        holder: Option<Holder>,
        now: Instant,
    ) {
        let Some(Holder { name, age }) = holder else {
            if self.since.take().is_some() {
                let mut state = shared.lock();
                (state.held_back_by, state.ledger.held_back) = (None, None);
            }
            return;
        };
        let since = *self.since.get_or_insert_with(|| {
            self.warn_after = PATIENCE;
            now
        });
        let waited = now.saturating_duration_since(since);
        let held = HeldBack {
            topic: topic.to_owned(),
            group: group.to_owned(),
            holder: name,
            age: age.unwrap_or(waited).max(waited),
        };
        if waited >= self.warn_after {
            self.warn_after = waited * 2;
            let (holder, age_ms) = (&held.holder, held.age.as_millis() as u64);
            tracing::warn!(topic, group, holder, age_ms, "held back by an open transaction that writes here");
        }
        let mut state = shared.lock();
        if waited >= PATIENCE {
            state.degraded(held.to_string());
        }
        state.held_back_by = Some(held.holder.clone());
        state.ledger.held_back = Some(held);
    }

    /// Whether this has lasted so long that it is no longer the ordinary end of a transaction.
    pub(crate) fn lasts(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now.saturating_duration_since(since) >= PATIENCE)
    }
}

impl fmt::Display for HeldBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "held back by {}, whose transaction is {:.1} s old", self.holder, self.age.as_secs_f64())
    }
}
