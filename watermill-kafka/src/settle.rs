//! [`Desk`]: what a subscription's stream, its client and its deliveries share, and how an outcome gets
//! from one to the other.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::Duration,
};

use futures::task::AtomicWaker;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use watermill_core::{
    Window,
    delivery::{Outcome, Receipt, Settle, Token},
    error::{SettleError, SubscribeError},
    subscription::Health,
};

use crate::{
    bell::Bell,
    dead_letters::Dead,
    error::Failure,
    ledger::{Condemned, Handed, Ledger, Offer},
    queue::Queue,
};

/// Errors that nobody has read yet; older ones are in the log.
const ERRORS_MAX: usize = 16;

/// How many records of one partition are handed out before another has its turn.
const TURN: u32 = 64;

/// The place where they meet. Its lock is held for moments and never while something is awaited; under
/// it librdkafka's queues are polled, so no callback of librdkafka may take it that is called under
/// theirs.
pub(crate) struct Desk {
    pub(crate) topic: String,
    state: Mutex<State>,
    reader: Arc<AtomicWaker>,
    bell: Arc<Bell>,
    max_ahead: usize,
    /// Whether there is a group, and so something to commit.
    commits: bool,
    /// Whether there is a dead-letter topic.
    dead_letters: bool,
    /// Tells the task that sends them.
    pub(crate) condemning: Notify,
    /// Cancelled once the client has let go of the subscription.
    pub(crate) left: CancellationToken,
}

struct State {
    /// By partition; `None` for those that are not ours.
    parts: Vec<Option<Part>>,
    /// The numbers of those that are ours.
    ours: Vec<usize>,
    /// Whose turn it is, as a place in `ours`, and how much of the turn is left.
    turn: usize,
    left: u32,
    window: Window,
    errors: VecDeque<SubscribeError>,
    health: Health,
    stopped: bool,
    ended: bool,
    /// Whether the stream waits to be woken.
    waiting: bool,
    /// Whether somebody waits for a commit.
    urgent: bool,
    /// To be sent to the dead-letter topic; each is in a ledger too, whose bounds are theirs.
    dead: VecDeque<Dead>,
}

/// A partition that is ours.
struct Part {
    /// Tells assignments of a partition apart: the word of an earlier one does not count.
    scope: u64,
    queue: Arc<Queue>,
    ledger: Ledger,
}

/// The next thing on the stream.
pub(crate) enum Next {
    Handed(u64, Handed),
    Error(SubscribeError),
    Ended,
    /// Nothing, before this time or before the stream is woken.
    Nothing(Option<Instant>),
}

impl Desk {
    pub(crate) fn new(
        topic: &str,
        bell: Arc<Bell>,
        max_ahead: usize,
        commits: bool,
        dead_letters: bool,
    ) -> Self {
        Self {
            topic: topic.to_owned(),
            state: Mutex::new(State {
                parts: Vec::new(),
                ours: Vec::new(),
                turn: 0,
                left: TURN,
                window: Window::ONE,
                errors: VecDeque::new(),
                health: Health::Healthy,
                stopped: false,
                ended: false,
                waiting: false,
                urgent: false,
                dead: VecDeque::new(),
            }),
            reader: Arc::new(AtomicWaker::new()),
            bell,
            max_ahead,
            commits,
            dead_letters,
            condemning: Notify::new(),
            left: CancellationToken::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next thing on the stream; when there is nothing, `waker` is woken once there may be.
    #[inline]
    pub(crate) fn next(&self, waker: &Waker) -> Next {
        let mut state = self.lock();
        let next = state.next(self);
        if !matches!(next, Next::Nothing(_)) {
            return next;
        }
        // Registered, and then looked again: a record that came in between has woken nobody.
        self.reader.register(waker);
        let next = state.next(self);
        state.waiting = matches!(next, Next::Nothing(_));
        next
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

    /// Something has worked again.
    pub(crate) fn recovered(&self) {
        let mut state = self.lock();
        if matches!(state.health, Health::Degraded { .. }) {
            state.health = Health::Healthy;
        }
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
        first
    }

    /// Whether there is a group, and so something to commit.
    pub(crate) fn commits(&self) -> bool {
        self.commits
    }

    /// Whether no partition is ours.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().ours.is_empty()
    }

    /// A partition is ours now.
    pub(crate) fn assign(&self, partition: i32, scope: u64, queue: Arc<Queue>) {
        let Ok(at) = usize::try_from(partition) else { return };
        queue.wakes(Some(self.reader.clone()));
        let mut state = self.lock();
        if state.parts.len() <= at {
            state.parts.resize_with(at + 1, || None);
        }
        if state.parts[at].replace(Part { scope, queue, ledger: Ledger::default() }).is_none() {
            state.ours.push(at);
        }
        drop(state);
        self.reader.wake();
    }

    /// A partition is not ours any more. Returns its scope and what is in hand of it.
    pub(crate) fn revoke(&self, partition: i32) -> Option<(u64, Ledger)> {
        let at = usize::try_from(partition).ok()?;
        let mut state = self.lock();
        let part = state.parts.get_mut(at)?.take()?;
        state.ours.retain(|ours| *ours != at);
        drop(state);
        part.queue.wakes(None);
        Some((part.scope, part.ledger))
    }

    /// The partitions that are ours, and where the next reader of each would go on.
    pub(crate) fn watermarks(&self) -> Vec<(i32, Option<i64>)> {
        self.lock().parts().map(|(partition, part)| (partition, part.ledger.watermark())).collect()
    }

    /// What is to be committed.
    pub(crate) fn uncommitted(&self) -> Vec<(i32, i64)> {
        let mut state = self.lock();
        state.urgent = false;
        if !self.commits {
            return Vec::new();
        }
        state.parts().filter_map(|(partition, part)| Some((partition, part.ledger.uncommitted()?))).collect()
    }

    /// Whether somebody waits for a commit.
    pub(crate) fn is_urgent(&self) -> bool {
        self.lock().urgent
    }

    /// The group has this offset of a partition.
    pub(crate) fn committed(&self, partition: i32, offset: i64) {
        if let Some(part) = self.lock().part_of(partition) {
            part.ledger.committed(offset);
        }
    }

    /// How many messages are on their way to the dead-letter topic.
    pub(crate) fn condemned(&self) -> usize {
        self.lock().parts().map(|(_, part)| part.ledger.condemned()).sum()
    }

    /// Up to `max` messages that are to go to the dead-letter topic and are ours still.
    pub(crate) fn take_dead(&self, max: usize) -> Vec<Dead> {
        let mut state = self.lock();
        let len = state.dead.len().min(max);
        let dead: Vec<_> = state.dead.drain(..len).collect();
        dead.into_iter().filter(|dead| state.part(dead.token.scope).is_some()).collect()
    }

    /// A rejected message has arrived at the dead-letter topic.
    pub(crate) fn bury(&self, token: Token) {
        let mut state = self.lock();
        if let Some(part) = state.part(token.scope) {
            part.ledger.bury(token.position.cast_signed());
        }
        state.urgent = true;
        drop(state);
        self.reader.wake();
        self.bell.ring();
    }

    #[inline]
    fn settle(&self, token: Token, outcome: Outcome, receipt: Option<Receipt>) {
        let offset = token.position.cast_signed();
        let mut state = self.lock();
        let ended = state.ended;
        let Some(part) = state.part(token.scope).filter(|_| !ended) else {
            drop(state);
            if let Some(receipt) = receipt {
                receipt.complete(Err(SettleError::lost()));
            }
            return;
        };
        let (mut urgent, mut condemned) = (false, None);
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
                condemned = part.ledger.condemn(offset, receipt).map(|condemned| (condemned, reason));
                if !self.dead_letters {
                    part.ledger.bury(offset);
                }
            }
            Outcome::Nack { delay } => part.ledger.nack(offset, delay, Instant::now(), receipt),
            _ => part.ledger.nack(offset, Duration::ZERO, Instant::now(), receipt),
        }
        state.urgent |= urgent;
        let wake = std::mem::take(&mut state.waiting);
        let dropped = match condemned {
            Some((condemned, reason)) if self.dead_letters => {
                state.dead.push_back(Dead { token, condemned, reason });
                None
            }
            condemned => condemned,
        };
        let dead = !state.dead.is_empty();
        drop(state);
        if wake {
            self.reader.wake();
        }
        if urgent {
            self.bell.ring();
        }
        if dead {
            self.condemning.notify_one();
        }
        if let Some((condemned, reason)) = dropped {
            log_dropped(&self.topic, token, &condemned, &reason);
        }
    }
}

impl State {
    #[inline]
    fn next(&mut self, desk: &Desk) -> Next {
        if let Some(error) = self.errors.pop_front() {
            return Next::Error(error);
        }
        if self.stopped || self.ended {
            return Next::Ended;
        }
        let mut due: Option<Instant> = None;
        for _ in 0..=self.ours.len() {
            if self.left == 0 || self.turn >= self.ours.len() {
                self.pass_turn();
            }
            let Some(at) = self.ours.get(self.turn) else { break };
            let Some(part) = &mut self.parts[*at] else { break };
            let taken = match part.ledger.offer(self.window, desk.max_ahead, Instant::now) {
                Offer::Again(handed) => Some(Ok(handed)),
                Offer::Fresh => part.take(),
                Offer::Nothing(at) => {
                    due = due.into_iter().chain(at).min();
                    None
                }
            };
            match taken {
                Some(Ok(handed)) => {
                    self.left -= 1;
                    if matches!(self.health, Health::Degraded { .. }) {
                        self.health = Health::Healthy;
                    }
                    return Next::Handed(part.scope, handed);
                }
                Some(Err(failure)) => return Next::Error(failure.subscribing(&desk.topic)),
                None => self.pass_turn(),
            }
        }
        // In an unordered window a partition that waits for nothing but records may hold nacked ones.
        let later = self.parts().filter_map(|(_, part)| part.ledger.due()).min();
        Next::Nothing(due.into_iter().chain(later).min())
    }

    fn pass_turn(&mut self) {
        self.turn = if self.turn + 1 < self.ours.len() { self.turn + 1 } else { 0 };
        self.left = TURN;
    }

    fn parts(&self) -> impl Iterator<Item = (i32, &Part)> {
        self.ours.iter().filter_map(|at| Some((i32::try_from(*at).ok()?, self.parts[*at].as_ref()?)))
    }

    fn part_of(&mut self, partition: i32) -> Option<&mut Part> {
        self.parts.get_mut(usize::try_from(partition).ok()?)?.as_mut()
    }

    /// The partition in the assignment that the scope names.
    #[inline]
    fn part(&mut self, scope: u64) -> Option<&mut Part> {
        self.parts.get_mut(scope::partition(scope))?.as_mut().filter(|part| part.scope == scope)
    }

    fn push_error(&mut self, error: SubscribeError) {
        if self.errors.len() == ERRORS_MAX {
            self.errors.pop_front();
        }
        self.errors.push_back(error);
    }
}

impl Part {
    /// Takes the next record that was not handed out before.
    #[inline]
    fn take(&mut self) -> Option<Result<Handed, Failure>> {
        loop {
            match self.queue.take()? {
                Ok(taken) if self.ledger.hand_out(taken.offset, taken.timestamp, &taken.message) => {
                    let crate::queue::Taken { offset, timestamp, message } = taken;
                    return Some(Ok(Handed { offset, attempt: 1, timestamp, message }));
                }
                Ok(_) => {}
                Err(error) => return Some(Err(Failure::while_reading(error))),
            }
        }
    }
}

/// An ordering scope is a partition in one of its assignments.
pub(crate) mod scope {
    pub(crate) fn new(partition: i32, assignment: u32) -> u64 {
        u64::from(assignment) << 32 | u64::from(partition.cast_unsigned())
    }

    #[inline]
    pub(crate) fn partition(scope: u64) -> usize {
        (scope & u64::from(u32::MAX)) as usize
    }
}

fn log_dropped(topic: &str, token: Token, condemned: &Condemned, reason: &str) {
    tracing::error!(
        topic,
        partition = scope::partition(token.scope),
        offset = token.position,
        message = condemned.message.id().as_str(),
        attempts = condemned.attempts,
        reason,
        "rejected: the message is passed, for there is no dead-letter topic"
    );
}

/// The way of outcomes to the desk.
pub(crate) struct Settler(pub(crate) Arc<Desk>);

impl Settle for Settler {
    #[inline]
    fn settle(&self, token: Token, outcome: Outcome, receipt: Option<Receipt>) {
        self.0.settle(token, outcome, receipt);
    }
}
