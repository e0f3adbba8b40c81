//! [`ForwarderControl`]: what can be asked of a forwarder from outside.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use watermill_core::{
    router::Phase,
    subscription::{Health, SubscriptionControl, SubscriptionStatus},
};

use crate::{ForwarderReport, ForwarderStatus, status::Held};

/// A handle on a forwarder: to stop it, to look at it, to pause what it sends. Cheap to clone.
///
/// It belongs to the forwarder that it was taken from, and to that one's clones, of which one runs at a time.
#[derive(Clone)]
pub struct ForwarderControl {
    pub(crate) shared: Arc<Shared>,
}

/// What a forwarder and its handles share.
pub(crate) struct Shared {
    topic: String,
    stop: CancellationToken,
    phase: watch::Sender<Phase>,
    pauses_changed: Notify,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    paused: Pauses,
    counts: ForwarderReport,
    in_hand: usize,
    unrecorded: usize,
    held: Vec<Held>,
    source: SourceState,
    /// Of each shard, what has it in hand now.
    shards: BTreeMap<u32, ForwarderControl>,
}

/// Destinations, and keys of them.
pub(crate) type Pauses = BTreeSet<(String, Option<Bytes>)>;

#[derive(Default)]
enum SourceState {
    #[default]
    NotSubscribed,
    Away(String),
    Running(Arc<dyn SubscriptionControl>),
    Ended,
}

/// What a forwarder says of itself from time to time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) counts: ForwarderReport,
    pub(crate) in_hand: usize,
    pub(crate) unrecorded: usize,
    pub(crate) held: Vec<Held>,
}

impl ForwarderControl {
    pub(crate) fn new(topic: &str) -> Self {
        Self {
            shared: Arc::new(Shared {
                topic: topic.to_owned(),
                stop: CancellationToken::new(),
                phase: watch::Sender::new(Phase::Starting),
                pauses_changed: Notify::new(),
                state: Mutex::default(),
            }),
        }
    }

    /// Asks the forwarder to stop gracefully, as its shutdown signal does. One that was not run yet ends at once.
    pub fn stop(&self) {
        self.shared.stop.cancel();
    }

    /// What the forwarder is doing.
    pub fn phase(&self) -> Phase {
        *self.shared.phase.borrow()
    }

    /// Waits until the forwarder has reached `phase`, or gone past it.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn reached(&self, phase: Phase) {
        // The sender lives in `self`, so this cannot fail.
        let _ = self.shared.phase.subscribe().wait_for(|current| *current >= phase).await;
    }

    /// How it is doing. Never blocks and asks nobody.
    pub fn status(&self) -> ForwarderStatus {
        let state = self.shared.lock();
        if !state.shards.is_empty() {
            return self.of_shards(&state);
        }
        let without = |health| SubscriptionStatus::new(&*self.shared.topic, health);
        let source = match &state.source {
            SourceState::NotSubscribed => {
                without(Health::Degraded { reason: "not subscribed yet".to_owned() })
            }
            SourceState::Away(error) => {
                without(Health::Degraded { reason: format!("not subscribed yet: {error}") })
            }
            SourceState::Running(control) => control.status(),
            SourceState::Ended => without(Health::Ended),
        };
        ForwarderStatus {
            phase: self.phase(),
            counts: state.counts.clone(),
            source,
            in_hand: state.in_hand,
            unrecorded: state.unrecorded,
            held: state.held.clone(),
            shards: Vec::new(),
        }
    }

    /// What the shards say together. One that another process has does not trouble this one.
    fn of_shards(&self, state: &State) -> ForwarderStatus {
        let mut all: Vec<_> = state.shards.values().map(Self::status).collect();
        let works = |status: &ForwarderStatus| status.source.active;
        let source = all.iter().find(|status| works(status)).or(all.first()).map(|status| &status.source);
        let mut source = source.cloned().expect("there is a shard");
        let working = || all.iter().filter(|status| works(status)).map(|status| &status.source);
        source.outstanding = working().map(|source| source.outstanding).sum();
        // Where none works, nobody knows how much waits; a sum of nothing were zero.
        source.lag = working().next().and_then(|_| working().map(|source| source.lag).sum());
        source.oldest_unsettled = working().filter_map(|source| source.oldest_unsettled).max();
        source.held_back_by = working().find_map(|source| source.held_back_by.clone());
        let mut counts = state.counts.clone();
        all.iter().for_each(|status| counts.add(&status.counts));
        let mut held: Vec<_> = all.iter_mut().flat_map(|status| std::mem::take(&mut status.held)).collect();
        held.truncate(ForwarderStatus::HELD_MAX);
        ForwarderStatus {
            phase: self.phase(),
            counts,
            source,
            in_hand: all.iter().map(|status| status.in_hand).sum(),
            unrecorded: all.iter().map(|status| status.unrecorded).sum(),
            held,
            shards: all.into_iter().map(|status| status.source).collect(),
        }
    }

    /// Lets nothing more go to `destination`, or, where a key is given, nothing of that key. A call in progress is
    /// finished. What is paused counts against [`max_blocked`](crate::ForwarderConfig::max_blocked); a
    /// [`FencedForwarder`](crate::FencedForwarder) waits as a whole when it meets any of it.
    pub fn pause(&self, destination: impl Into<String>, key: Option<Bytes>) {
        let paused = (destination.into(), key);
        self.shared.change_pauses(|pauses| pauses.insert(paused.clone()));
    }

    /// Lets it go again, and says whether that was paused. A destination that is resumed leaves its keys paused
    /// that were paused by themselves.
    pub fn resume(&self, destination: impl Into<String>, key: Option<Bytes>) -> bool {
        let resumed = (destination.into(), key);
        self.shared.change_pauses(|pauses| pauses.remove(&resumed))
    }

    /// What is paused: destinations, and keys of them.
    pub fn paused(&self) -> Vec<(String, Option<Bytes>)> {
        self.shared.lock().paused.iter().cloned().collect()
    }
}

impl Shared {
    async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Waits until its caller or somebody else asks it to stop.
    pub(crate) async fn asked_to_stop(&self, shutdown: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            () = shutdown => {}
            () = self.stopped() => {}
        }
    }

    /// Waits until something was paused or resumed since the last call.
    pub(crate) async fn pauses_changed(&self) {
        self.pauses_changed.notified().await;
    }

    pub(crate) fn pauses(&self) -> Pauses {
        self.lock().paused.clone()
    }

    fn change_pauses(&self, change: impl Fn(&mut Pauses) -> bool) -> bool {
        let mut state = self.lock();
        for shard in state.shards.values() {
            change(&mut shard.shared.lock().paused);
            shard.shared.pauses_changed.notify_one();
        }
        let has_changed = change(&mut state.paused);
        drop(state);
        self.pauses_changed.notify_one();
        has_changed
    }

    /// For one that is about to forward a shard; what the last one has done stays counted.
    pub(crate) fn control_of_shard(&self, number: u32) -> ForwarderControl {
        let control = ForwarderControl::new(&self.topic);
        let mut state = self.lock();
        control.shared.lock().paused = state.paused.clone();
        if let Some(last) = state.shards.insert(number, control.clone()) {
            state.counts.add(&last.status().counts);
        }
        control
    }

    /// Forgets what was done before.
    pub(crate) fn forget(&self) {
        let mut state = self.lock();
        state.shards.clear();
        state.counts = ForwarderReport::default();
    }

    /// What the shards have done, which nobody forwards any more.
    pub(crate) fn counts(&self) -> ForwarderReport {
        let mut state = self.lock();
        let shards = std::mem::take(&mut state.shards);
        shards.values().for_each(|shard| state.counts.add(&shard.status().counts));
        state.counts.clone()
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// The source is away, for this reason.
    pub(crate) fn source_away(&self, error: String) {
        self.lock().source = SourceState::Away(error);
    }

    pub(crate) fn subscribed(&self, control: Arc<dyn SubscriptionControl>) {
        self.lock().source = SourceState::Running(control);
        self.enter(Phase::Running);
    }

    /// Whether what is in hand is still ours, as far as the source can tell by the clock alone.
    pub(crate) fn is_owner(&self) -> bool {
        match &self.lock().source {
            SourceState::Running(control) => control.is_owner(),
            _ => true,
        }
    }

    pub(crate) fn update(&self, snapshot: Snapshot) {
        let mut state = self.lock();
        let Snapshot { counts, in_hand, unrecorded, held } = snapshot;
        (state.counts, state.in_hand, state.unrecorded, state.held) = (counts, in_hand, unrecorded, held);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run; dropped in any way, it has ended.
pub(crate) struct Run<'a>(&'a Shared);

impl<'a> Run<'a> {
    pub(crate) fn start(shared: &'a Shared) -> Self {
        shared.enter(Phase::Starting);
        Self(shared)
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        {
            let mut state = self.0.lock();
            state.source = SourceState::Ended;
            (state.in_hand, state.unrecorded) = (0, 0);
            state.held.clear();
        }
        self.0.enter(Phase::Ended);
    }
}

impl fmt::Debug for ForwarderControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwarderControl").field("phase", &self.phase()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_shards_of_which_none_works_nobody_knows_how_much_waits() {
        let control = ForwarderControl::new("outbox");
        (0..2).for_each(|number| drop(control.shared.control_of_shard(number)));
        let status = control.status();
        assert_eq!((status.shards.len(), status.source.lag, status.source.oldest_unsettled), (2, None, None));
    }
}
