//! [`Timing`]: how long the tries of a lane take, where somebody wants to know.

use tokio::time::Instant;

use super::state::State;

/// The last look at the clock. Where a try begins right after another has ended it is not looked at again: a look is
/// a third of what measuring costs.
pub(super) struct Timing {
    at: Instant,
    /// Whether that was just now: nothing has been waited for since.
    is_now: bool,
    /// Whether the lane's tries follow each other; those of several lanes do not.
    is_only_lane: bool,
}

impl Timing {
    pub(super) fn new(is_only_lane: bool) -> Self {
        Self { at: Instant::now(), is_now: false, is_only_lane }
    }
}

impl State<'_> {
    /// The service is about to be called.
    #[inline(always)]
    pub(super) fn try_begins(&mut self) {
        if self.env.timer.is_some() && !std::mem::take(&mut self.timing.is_now) {
            self.timing.at = Instant::now();
        }
    }

    /// The service has answered, or panicked.
    #[inline(always)]
    pub(super) fn try_ended(&mut self, has_succeeded: impl FnOnce() -> bool) {
        let Some(timer) = &self.env.timer else { return };
        let has_succeeded = has_succeeded();
        let now = Instant::now();
        let took = now - self.timing.at;
        // What becomes of a failure may take its time.
        self.timing.is_now = has_succeeded && self.timing.is_only_lane;
        self.timing.at = now;
        timer.ended(took, has_succeeded);
    }

    /// Time has passed since the last try: the worker has waited, or outputs were published.
    #[inline(always)]
    pub(super) fn time_has_passed(&mut self) {
        self.timing.is_now = false;
    }
}
