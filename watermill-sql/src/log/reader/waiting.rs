//! [`Waiting`]: for how long a reader has been held back.

use std::time::Duration;

use tokio::time::Instant;
use watermill_core::backend::Shared;

use crate::log::{
    held_back::{HeldBack, Holder},
    ledger::LogLedger,
};

/// How long a reader is held back before it says so, and by how much it waits longer each time.
const PATIENCE: Duration = Duration::from_secs(1);

/// A reader's account of who holds it back.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// Since when it waits for what it waits for now.
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
        let Some(Holder { name, id, age, since }) = holder else {
            if self.since.take().is_some() {
                let mut state = shared.lock();
                (state.held_back_by, state.ledger.held_back) = (None, None);
            }
            return;
        };
        if self.since.replace(since) != Some(since) {
            self.warn_after = PATIENCE;
        }
        let waited = now.saturating_duration_since(since);
        let held = HeldBack {
            topic: topic.to_owned(),
            group: group.to_owned(),
            holder: name,
            id,
            age: age.unwrap_or(waited),
            waited,
        };
        if waited >= self.warn_after {
            self.warn_after = waited * 2;
            let (holder, age_ms) = (&held.holder, held.age.as_millis() as u64);
            tracing::warn!(topic, group, holder, age_ms, "held back by an open transaction that writes here");
        }
        let mut state = shared.lock();
        if waited >= PATIENCE {
            state.degraded(held.to_string());
        } else if state.held_back_by.is_some() {
            // It has got on since it was said to be held back.
            state.recovered();
        }
        state.held_back_by = Some(held.holder.clone());
        state.ledger.held_back = Some(held);
    }

    /// Whether this has lasted so long that it is no longer the ordinary end of a transaction.
    pub(crate) fn lasts(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now.saturating_duration_since(since) >= PATIENCE)
    }
}
