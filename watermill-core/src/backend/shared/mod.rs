//! [`Shared`]: what a subscription's stream, its deliveries and its background task share.

mod source;
mod state;
mod task;

pub use self::{
    state::{State, WakeFor},
    task::Task,
};

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use self::state::Owned;
use super::{ById, Ledger, Source as _};
use crate::{
    delivery::Origin,
    error::{BoxError, SettleError, SubscribeError, SubscribeErrorKind},
    subscription::Health,
};

/// The state that a subscription's stream, its deliveries and its background task share, over a [`Ledger`]:
/// the [`Source`](super::Source) of nearly every backend.
///
/// The stream takes messages out of the ledger, and deliveries settle there. The task puts messages in,
/// records outcomes, and sleeps in [`work`](Self::work) meanwhile. The lock is held for moments, and what
/// it returns cannot be kept over an `await` of a spawned task.
pub struct Shared<L> {
    state: Mutex<State<L>>,
    options: SharedOptions,
    topic: String,
    group: Option<String>,
    work: Notify,
    started: CancellationToken,
    closing: CancellationToken,
    ended: watch::Sender<Option<Result<(), String>>>,
}

/// How a [`Shared`] behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SharedOptions {
    /// So many unrecorded outcomes are recorded at once. Default: 1, each at once.
    pub record_batch: usize,
    /// Fewer are recorded after this time, or at once when somebody waits for a receipt. Default: zero.
    pub record_interval: Duration,
    /// How long [`close`](super::Source::close) waits for the task, before it fails. The task's own waits are to be
    /// shorter than this together. Default: 60 seconds.
    pub close_timeout: Duration,
}

impl<L: Ledger> Shared<L> {
    /// The state of a subscription to `topic` for `group`, with nothing in hand but what `ledger` has.
    pub fn new(topic: impl Into<String>, group: Option<&str>, ledger: L, options: SharedOptions) -> Self {
        Self {
            state: Mutex::new(State::new(ledger)),
            options,
            topic: topic.into(),
            group: group.map(str::to_owned),
            work: Notify::new(),
            started: CancellationToken::new(),
            closing: CancellationToken::new(),
            ended: watch::Sender::new(None),
        }
    }

    /// The topic subscribed to.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The consumer group.
    pub fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    /// Locks the state. Whoever puts messages in calls [`wake_stream`](Self::wake_stream) afterwards.
    pub fn lock(&self) -> MutexGuard<'_, State<L>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the stream look again.
    pub fn wake_stream(&self) {
        let reader = self.lock().reader.take();
        wake(reader);
    }

    /// Puts trouble on the stream. At most 16 errors wait there, the latest ones.
    pub fn report(&self, error: SubscribeError) {
        let mut state = self.lock();
        state.push_error(error);
        let reader = state.reader.take();
        drop(state);
        wake(reader);
    }

    /// Says of a record that it is no message, in the log and on the stream. `fate` names the record and what
    /// becomes of it, as a lowercase fragment.
    pub fn report_undecodable(&self, fate: impl Into<String>, error: impl Into<BoxError>) {
        let (fate, error) = (fate.into(), error.into());
        tracing::error!(topic = self.topic, %error, "{fate}");
        let report = SubscribeError::new(SubscribeErrorKind::Undecodable, &self.topic);
        self.report(report.because(fate).with_source(error));
    }

    /// Waits for what the task has to do: until the subscription [is over](Self::is_over), outcomes are to be
    /// recorded, the ledger [wants more](Ledger::wants_more) if `for_room`, or `until`. May return for nothing,
    /// seldom.
    ///
    /// # Cancel safety
    ///
    /// Nothing is missed by dropping it: what happened meanwhile is seen by the next wait.
    pub async fn wait(&self, for_room: bool, until: Instant) {
        let until = {
            let mut state = self.lock();
            if for_room && state.ledger.wants_more() && !state.stopped {
                return;
            }
            let until = self.record_at(&state).map_or(until, |at| at.min(until));
            state.wake_for = WakeFor { room: for_room, recording_before: Some(until) };
            until
        };
        if !self.is_over() {
            tokio::select! {
                () = self.closing.cancelled() => {}
                () = self.work.notified() => {}
                () = sleep_until(until) => {}
            }
        }
    }

    /// Waits until something happens that [`wake_for`](State::wake_for) names, or intake stops: for a task
    /// that waits for other things too. The subscription closing is told by [`closing`](Self::closing).
    ///
    /// # Cancel safety
    ///
    /// Nothing is missed by dropping it: what happened is told to the next wait.
    pub async fn work(&self) {
        self.work.notified().await;
    }

    /// Cancelled when the subscription is to end: the task records what is settled, gives back what is in
    /// hand, and ends.
    pub fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// Whether the task may end: the subscription is closing, or takes nothing any more and has nothing
    /// outstanding.
    pub fn is_over(&self) -> bool {
        if self.closing.is_cancelled() {
            return true;
        }
        let state = self.lock();
        state.ended || state.stopped && state.ledger.outstanding() == 0
    }

    /// When unrecorded outcomes are to be recorded: at once where a batch is full or somebody waits.
    pub fn record_at(&self, state: &State<L>) -> Option<Instant> {
        let unrecorded = state.ledger.unrecorded();
        match unrecorded.awaited || unrecorded.count >= self.options.record_batch {
            true => unrecorded.since,
            false => unrecorded.since.map(|since| since + self.options.record_interval),
        }
    }

    /// Says that the task knows where it stands, for [`started`](Self::started).
    pub fn start(&self) {
        self.started.cancel();
    }

    /// Waits until the task has said that it knows where it stands, or has ended.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost by dropping it.
    pub async fn started(&self) {
        self.started.cancelled().await;
    }

    /// Nacks what is outstanding and lets go of what is fresh, so that the task has all of it to record:
    /// the begin of a graceful end. Whoever works for one of these deliveries is told that it is lost.
    pub fn give_back(&self, origin: &Origin) {
        self.stop_intake();
        origin.revoke(|| {
            let mut state = self.lock();
            let tokens = state.ledger.tokens();
            state.ledger.give_back(Instant::now());
            tokens
        });
    }

    /// Nothing in hand is ours any more (a lost lease, a connection that is gone): it is forgotten, and
    /// whoever works for it or waits for a receipt is told.
    pub fn lose(&self, origin: &Origin) {
        origin.revoke(|| {
            let mut state = self.lock();
            let tokens = state.ledger.tokens();
            state.ledger.lose(SettleError::lost);
            tokens
        });
    }

    /// A guard for the task. When it is dropped, however the task ends, a panic and the end of the runtime
    /// included, nothing will come or be recorded any more, and nobody waits for it.
    pub fn task(self: &Arc<Self>) -> Task<L> {
        Task { shared: self.clone(), result: None }
    }

    fn task_ended(&self, result: Result<(), String>) {
        let mut state = self.lock();
        state.ended = true;
        state.owned = Owned::No;
        state.health = Health::Ended;
        state.held_back_by = None;
        state.ledger.lose(SettleError::unknown);
        let reader = state.reader.take();
        drop(state);
        self.ended.send_replace(Some(result));
        self.started.cancel();
        wake(reader);
    }
}

impl<I: Send + 'static> Shared<ById<I>> {
    /// Forgets messages that are not ours any more, as [`ById::lose_where`], and tells whoever works for them.
    pub fn lose_where(&self, origin: &Origin, lost: impl FnMut(&I) -> bool) {
        origin.revoke(|| self.lock().ledger.lose_where(lost));
    }
}

impl SharedOptions {
    /// Sets [`record_batch`](Self::record_batch).
    #[must_use]
    pub fn record_batch(mut self, outcomes: usize) -> Self {
        self.record_batch = outcomes;
        self
    }

    /// Sets [`record_interval`](Self::record_interval).
    #[must_use]
    pub fn record_interval(mut self, interval: Duration) -> Self {
        self.record_interval = interval;
        self
    }

    /// Sets [`close_timeout`](Self::close_timeout).
    #[must_use]
    pub fn close_timeout(mut self, at_most: Duration) -> Self {
        self.close_timeout = at_most;
        self
    }
}

impl Default for SharedOptions {
    fn default() -> Self {
        Self { record_batch: 1, record_interval: Duration::ZERO, close_timeout: Duration::from_secs(60) }
    }
}

impl<L: Ledger> fmt::Debug for Shared<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("topic", &self.topic)
            .field("group", &self.group)
            .field("state", &*self.lock())
            .finish_non_exhaustive()
    }
}

fn wake(reader: Option<Waker>) {
    if let Some(reader) = reader {
        reader.wake();
    }
}

#[cfg(test)]
mod tests;
