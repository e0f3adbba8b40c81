//! [`HandlerTimer`]: how long the tries of a router's handler take.

use std::time::Duration;

use watermill_core::router::TryTimer;

use super::{buckets::Durations, list::HANDLER_SECONDS, shared::Shared};

/// The histograms of a handler, registered once.
pub(super) struct HandlerTimer {
    succeeded: Durations,
    failed: Durations,
}

impl HandlerTimer {
    pub(super) fn new(shared: &Shared, handler: &str) -> Self {
        Self::labelled(shared, &shared.name(handler))
    }

    /// Of a handler whose name has become a label.
    pub(super) fn labelled(shared: &Shared, label: &str) -> Self {
        let durations = |success| shared.durations(HANDLER_SECONDS, &[label, success]);
        Self { succeeded: durations("true"), failed: durations("false") }
    }
}

impl TryTimer for HandlerTimer {
    #[inline]
    fn ended(&self, took: Duration, has_succeeded: bool) {
        if has_succeeded { self.succeeded.record(took) } else { self.failed.record(took) }
    }
}
