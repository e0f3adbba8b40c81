//! [`Progress`]: which subscriptions have replayed everything.

use std::sync::Arc;

use tokio::sync::watch;

/// Of all subscriptions of a replay.
#[derive(Default)]
pub(super) struct Progress(watch::Sender<Counts>);

#[derive(Clone, Copy, Default)]
struct Counts {
    open_or_done: u64,
    done: u64,
}

/// Of one subscription. Dropped before it is done, it is as if it had never begun.
pub(super) struct Share {
    progress: Arc<Progress>,
    is_done: bool,
}

impl Progress {
    pub(super) fn begin(self: &Arc<Self>) -> Share {
        self.0.send_modify(|counts| counts.open_or_done += 1);
        Share { progress: self.clone(), is_done: false }
    }

    pub(super) async fn done(self: Arc<Self>) {
        let mut counts = self.0.subscribe();
        // The sender is here: it cannot fail.
        let _ = counts.wait_for(|counts| counts.done > 0 && counts.done == counts.open_or_done).await;
    }
}

impl Share {
    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    pub(super) fn done(&mut self) {
        self.is_done = true;
        self.progress.0.send_modify(|counts| counts.done += 1);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if !self.is_done {
            self.progress.0.send_modify(|counts| counts.open_or_done -= 1);
        }
    }
}
