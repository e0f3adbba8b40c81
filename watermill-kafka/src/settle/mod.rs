//! [`Shared`]: what a subscription's stream, its client and its deliveries share, and how an outcome gets
//! from one to the other.

mod enlisted;
mod state;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::Duration,
};

use futures::task::AtomicWaker;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use watermill_core::{
    Window,
    backend::Failure,
    delivery::{Outcome, Receipt, Token},
    error::SettleError,
    subscription::Health,
};

use self::state::State;
pub(crate) use self::state::{Item, RejectedDelivery};
use crate::{
    assigned::{Back, Part, scope},
    ledger::{EnlistedState, Ledger, Rejected},
    notifier::Notifier,
    queue::Queue,
};

/// What a subscription shares with its client and its deliveries. Its lock is held for moments and never while something is awaited; under
/// it librdkafka's queues are polled, so no callback of librdkafka may take it that is called under
/// theirs.
pub(crate) struct Shared {
    pub(crate) topic: String,
    state: Mutex<State>,
    reader: Arc<AtomicWaker>,
    notifier: Arc<Notifier>,
    max_ahead: usize,
    /// Whether there is a group, and so something to commit.
    commits: bool,
    /// Whether there is a dead-letter topic.
    dead_letters: bool,
    /// The transactions that positions are committed in, if any.
    together: Option<Arc<dyn Together>>,
    /// Tells the task that sends them.
    pub(crate) rejecting: Notify,
    /// Cancelled once the client has let go of the subscription.
    pub(crate) left: CancellationToken,
}

/// Transactions that positions are committed in, with what was made of the deliveries.
pub(crate) trait Together: Send + Sync {
    /// Something was settled, or lost. With `soon` the open transaction is to end.
    fn settled(&self, soon: bool);

    /// Ends the open transaction, and waits for that; blocks.
    fn commit(&self, timeout: Duration) -> Result<(), Failure>;
}

impl Shared {
    pub(crate) fn new(
        topic: &str,
        notifier: Arc<Notifier>,
        max_ahead: usize,
        commits: bool,
        dead_letters: bool,
        together: Option<Arc<dyn Together>>,
    ) -> Self {
        Self {
            topic: topic.to_owned(),
            state: Mutex::new(State::new()),
            reader: Arc::new(AtomicWaker::new()),
            notifier,
            max_ahead,
            commits,
            dead_letters,
            together,
            rejecting: Notify::new(),
            left: CancellationToken::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next thing on the stream; when there is nothing, `waker` is woken once there may be.
    #[inline]
    pub(crate) fn next(&self, waker: &Waker) -> Item {
        let mut state = self.lock();
        let mut registered = false;
        loop {
            let next = state.next(self.max_ahead, &self.topic);
            if !matches!(next, Item::Nothing(_)) {
                return next;
            }
            if std::mem::replace(&mut registered, true) {
                state.waiting = true;
                return next;
            }
            // Registered, and then looked again: a record that came in between has woken nobody.
            self.reader.register(waker);
        }
    }

    pub(crate) fn set_window(&self, window: Window) {
        self.lock().window = window;
        self.reader.wake();
    }

    /// Puts trouble on the stream.
    pub(crate) fn report(&self, failure: Failure) {
        let error = failure.subscribing(&self.topic);
        let mut state = self.lock();
        if error.is_retryable() {
            state.health = Health::Degraded { reason: watermill_core::error::chain(&error) };
        }
        state.push_error(error);
        drop(state);
        self.reader.wake();
    }

    /// There is trouble that is nothing for the stream.
    pub(crate) fn degraded(&self, reason: &str) {
        let mut state = self.lock();
        if matches!(state.health, Health::Healthy) {
            state.health = Health::Degraded { reason: reason.to_owned() };
        }
    }

    /// Something has worked again.
    pub(crate) fn recovered(&self) {
        let mut state = self.lock();
        if matches!(state.health, Health::Degraded { .. }) {
            state.health = Health::Healthy;
        }
    }

    /// How many deliveries are out and unsettled.
    pub(crate) fn outstanding(&self) -> usize {
        self.lock().assigned.outstanding()
    }

    pub(crate) fn health(&self) -> Health {
        self.lock().health.clone()
    }

    /// Ends the stream after what was handed out.
    pub(crate) fn stop_intake(&self) {
        self.lock().stopped = true;
        self.reader.wake();
    }

    /// From now on no word on a delivery counts, and nothing is handed out: what is out is nacked. False
    /// when that was so before.
    pub(crate) fn end(&self) -> bool {
        let mut state = self.lock();
        let first = !std::mem::replace(&mut state.ended, true);
        state.health = Health::Ended;
        drop(state);
        self.reader.wake();
        self.enlisted_changed();
        first
    }

    /// Whether no word on a delivery counts any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// Whether there is a group, and so something to commit.
    pub(crate) fn commits(&self) -> bool {
        self.commits
    }

    /// Whether no partition is ours.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().assigned.is_empty()
    }

    /// A partition is ours now, with this much in hand.
    pub(crate) fn assign(&self, partition: i32, scope: u64, queue: Arc<Queue>, ledger: Ledger) {
        queue.wakes(Some(self.reader.clone()));
        self.lock().assigned.assign(partition, Part::new(scope, queue, ledger));
        self.reader.wake();
    }

    /// A partition is not ours any more. Returns its scope and what is in hand of it.
    pub(crate) fn revoke(&self, partition: i32) -> Option<(u64, Ledger)> {
        let revoked = self.lock().assigned.revoke(partition)?;
        revoked.queue.wakes(None);
        self.enlisted_changed();
        Some((revoked.scope, revoked.ledger))
    }

    /// Gives a partition whose log has gone back another scope, in which nothing is in hand.
    pub(crate) fn begin_anew(&self, partition: i32, scope: u64) -> Option<Back> {
        let mut state = self.lock();
        let back = state.assigned.begin_anew(partition, scope);
        // Whoever is the next to read it is not to go on where the old log was read up to.
        state.urgent |= self.commits;
        drop(state);
        self.notifier.notify();
        self.enlisted_changed();
        back
    }

    /// The partitions that are ours, and where the next reader of each would go on.
    pub(crate) fn watermarks(&self) -> Vec<(i32, Option<i64>)> {
        self.lock().assigned.iter().map(|(partition, part)| (partition, part.ledger.watermark())).collect()
    }

    /// What is to be committed.
    pub(crate) fn uncommitted(&self) -> Vec<(i32, i64)> {
        let mut state = self.lock();
        state.urgent = false;
        if !self.commits {
            return Vec::new();
        }
        state
            .assigned
            .iter()
            .filter_map(|(partition, part)| Some((partition, part.ledger.uncommitted()?)))
            .collect()
    }

    /// Whether somebody waits for a commit.
    pub(crate) fn is_urgent(&self) -> bool {
        self.lock().urgent
    }

    /// The group has this offset of a partition.
    pub(crate) fn committed(&self, partition: i32, offset: i64) {
        if let Some(part) = self.lock().assigned.partition(partition) {
            part.ledger.committed(offset);
        }
    }

    /// How many messages are on their way to the dead-letter topic.
    pub(crate) fn rejected(&self) -> usize {
        self.lock().assigned.iter().map(|(_, part)| part.ledger.rejected()).sum()
    }

    /// Up to `max` messages that are to go to the dead-letter topic and are ours still.
    pub(crate) fn take_rejected(&self, max: usize) -> Vec<RejectedDelivery> {
        let mut state = self.lock();
        let len = state.dead.len().min(max);
        let dead: Vec<_> = state.dead.drain(..len).collect();
        dead.into_iter().filter(|dead| state.assigned.scope(dead.token.scope).is_some()).collect()
    }

    /// A rejected message has arrived at the dead-letter topic.
    pub(crate) fn dead_lettered(&self, token: Token) {
        let mut state = self.lock();
        if let Some(part) = state.assigned.scope(token.scope) {
            part.ledger.dead_lettered(token.position.cast_signed());
        }
        state.urgent = true;
        drop(state);
        self.reader.wake();
        self.notifier.notify();
        self.enlisted_changed();
    }

    #[inline]
    pub(crate) fn handled(&self, token: Token) {
        let mut state = self.lock();
        let Some(part) = state.assigned.scope(token.scope) else { return };
        let wake = part.ledger.handled(token) && std::mem::take(&mut state.waiting);
        drop(state);
        if wake {
            self.reader.wake();
        }
    }

    #[inline]
    pub(crate) fn settle(&self, token: Token, outcome: Outcome, receipt: Option<Receipt>) {
        let offset = token.position.cast_signed();
        let mut state = self.lock();
        let ended = state.ended;
        let Some(part) = state.assigned.scope(token.scope).filter(|_| !ended) else {
            drop(state);
            if let Some(receipt) = receipt {
                receipt.complete(Err(SettleError::lost()));
            }
            return;
        };
        let (mut urgent, mut rejected) = (false, None);
        let outstanding = part.ledger.outstanding();
        match outcome {
            Outcome::Ack => {
                urgent = receipt.is_some() && self.commits;
                part.ledger.ack(offset, receipt);
                if !self.commits {
                    // Nothing is recorded anywhere, so there is nothing to wait for.
                    part.ledger.committed(offset + 1);
                }
            }
            Outcome::Reject { reason } => {
                rejected = part.ledger.reject(offset, receipt).map(|rejected| (rejected, reason));
                if !self.dead_letters {
                    part.ledger.dead_lettered(offset);
                }
            }
            Outcome::Nack { delay } => part.ledger.nack(offset, delay, Instant::now(), receipt),
            _ => part.ledger.nack(offset, Duration::ZERO, Instant::now(), receipt),
        }
        let broken = part.ledger.enlisted_state() == EnlistedState::No;
        let settled = outstanding - part.ledger.outstanding();
        state.assigned.settled(settled);
        state.urgent |= urgent;
        let wake = std::mem::take(&mut state.waiting);
        let dropped = match rejected {
            Some((rejected, reason)) if self.dead_letters => {
                state.dead.push_back(RejectedDelivery { token, rejected, reason });
                None
            }
            rejected => rejected,
        };
        let dead = !state.dead.is_empty();
        drop(state);
        if wake {
            self.reader.wake();
        }
        if urgent {
            self.notifier.notify();
        }
        if let Some(together) = &self.together {
            together.settled(broken);
        }
        if dead {
            self.rejecting.notify_one();
        }
        if let Some((rejected, reason)) = dropped {
            log_dropped(&self.topic, token, &rejected, &reason);
        }
    }
}

fn log_dropped(topic: &str, token: Token, rejected: &Rejected, reason: &str) {
    tracing::error!(
        topic,
        partition = scope::partition(token.scope),
        offset = token.position,
        message = rejected.message.id().as_str(),
        attempts = rejected.attempts,
        reason,
        "rejected: the message is passed, for there is no dead-letter topic"
    );
}
