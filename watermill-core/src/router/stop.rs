//! [`Stop`]: how a router, or one of its handlers, is asked to stop.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// A wish to stop. Whoever waits for it has a token, which takes a lock to look at; whoever looks for each message compares
/// two numbers first. Clones are the same wish.
#[derive(Default)]
pub(super) struct Stop {
    token: CancellationToken,
    /// How often there was news of the whole or of any of its parts.
    news: Arc<AtomicUsize>,
    /// So much of it is known, and was no wish to stop here.
    known: AtomicUsize,
}

impl Stop {
    /// For a part: it is asked by itself, or with the whole.
    pub(super) fn of_part(&self) -> Self {
        Self { token: self.token.child_token(), ..self.clone() }
    }

    pub(super) fn ask(&self) {
        self.token.cancel();
        // Behind it, so that whoever sees this finds the token cancelled.
        self.tell();
    }

    /// Whoever looks is to look closer.
    pub(super) fn tell(&self) {
        self.news.fetch_add(1, Ordering::Release);
    }

    /// Whether to look closer. It stays true until somebody [has looked](Self::is_asked).
    #[inline]
    pub(super) fn has_news(&self) -> bool {
        self.news.load(Ordering::Acquire) != self.known.load(Ordering::Relaxed)
    }

    pub(super) fn is_asked(&self) -> bool {
        let news = self.news.load(Ordering::Acquire);
        let is_asked = self.token.is_cancelled();
        if !is_asked {
            self.known.store(news, Ordering::Relaxed);
        }
        is_asked
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

impl Clone for Stop {
    fn clone(&self) -> Self {
        let known = self.known.load(Ordering::Relaxed).into();
        Self { token: self.token.clone(), news: self.news.clone(), known }
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
        assert!(one.has_news() && one.is_asked() && one.asked().now_or_never().is_some());
        assert!(!whole.is_asked() && !other.is_asked() && other.asked().now_or_never().is_none());
        assert!(!other.has_news() && one.has_news(), "each has looked for itself");
        whole.ask();
        for stop in [&whole, &other, &whole.of_part()] {
            assert!(stop.has_news() && stop.is_asked() && stop.asked().now_or_never().is_some());
        }
    }
}
