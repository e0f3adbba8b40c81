//! Whether the current code runs inside a handler.
//!
//! A router says so around every poll of a handler. A publisher that waits for acks does not wait for
//! the very handler that publishes.

use std::cell::Cell;

thread_local! {
    /// How many handlers are being polled on this thread's stack.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Whether the current code runs inside a handler of a router.
pub(crate) fn is_handling() -> bool {
    DEPTH.get() > 0
}

/// The code from [`enter`](Self::enter) until this is dropped runs as part of a handler.
pub(crate) struct Handling(());

impl Handling {
    #[inline(always)]
    pub(crate) fn enter() -> Self {
        DEPTH.set(DEPTH.get() + 1);
        Self(())
    }
}

impl Drop for Handling {
    #[inline(always)]
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// Runs `poll` as part of a handler.
#[inline(always)]
pub(crate) fn while_handling<T>(poll: impl FnOnce() -> T) -> T {
    let _handling = Handling::enter();
    poll()
}
