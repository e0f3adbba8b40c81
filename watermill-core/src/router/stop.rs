//! [`Stop`]: how a router, or one of its handlers, is asked to stop.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// A wish to stop. Whoever waits for it has a token; whoever looks at it for each message has a flag, which costs a load.
/// Clones are the same wish.
#[derive(Clone, Default)]
pub(super) struct Stop {
    token: CancellationToken,
    asked: Arc<AtomicBool>,
    /// The flag of the router, where this is one of its handlers.
    above: Arc<AtomicBool>,
}

impl Stop {
    /// For a part: it is asked by itself, or with the whole.
    pub(super) fn of_part(&self) -> Self {
        Self { token: self.token.child_token(), asked: Arc::default(), above: self.asked.clone() }
    }

    pub(super) fn ask(&self) {
        // First, so that whoever was woken by the token sees it.
        self.asked.store(true, Ordering::Release);
        self.token.cancel();
    }

    #[inline]
    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire) || self.above.load(Ordering::Acquire)
    }

    /// Ready once it is asked for. It may be polled again then.
    pub(super) fn asked(&self) -> WaitForCancellationFuture<'_> {
        self.token.cancelled()
    }

    /// What comes of `work`; `None` when the wish came before.
    pub(super) async fn run_until_asked<F: Future>(&self, work: F) -> Option<F::Output> {
        self.token.run_until_cancelled(work).await
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_part_stops_by_itself_or_with_the_whole_and_never_stops_the_whole() {
        let whole = Stop::default();
        let (one, other) = (whole.of_part(), whole.of_part());
        one.ask();
        assert!(one.is_asked() && one.asked().now_or_never().is_some());
        assert!(!whole.is_asked() && !other.is_asked() && other.asked().now_or_never().is_none());
        whole.ask();
        for stop in [&whole, &other, &whole.of_part()] {
            assert!(stop.is_asked() && stop.asked().now_or_never().is_some());
        }
    }
}
