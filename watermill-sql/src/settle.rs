//! [`Desk`]: what a subscription's stream, its background task and its deliveries share, and how an
//! outcome gets from one to the other.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    time::{Duration, SystemTime},
};

use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use watermill_core::{
    Message, Window,
    delivery::{Outcome, Receipt, Settle, Token},
    error::{SettleError, SubscribeError},
    subscription::{Health, SubscriptionStatus},
};

use crate::held_back::HeldBack;

/// Errors that nobody has read yet; older ones are in the log.
const ERRORS_MAX: usize = 16;

/// The rows that a subscription has in hand, until they are settled and that is recorded: of a log the
/// [`Ledger`](crate::ledger::Ledger), of a queue the [`Claims`](crate::queue::Claims). A state machine
/// without I/O or clock.
pub(crate) trait Hand: Default + Send + 'static {
    /// The next row to hand out, if there is one and the window has room.
    fn next(&mut self, now: Instant) -> Option<Handed>;

    /// Takes note of an outcome; false when the row is not out. `dead_letters` says whether a rejected
    /// message is kept.
    fn settle(
        &mut self,
        token: Token,
        outcome: Outcome,
        receipt: Option<Receipt>,
        dead_letters: bool,
        now: Instant,
    ) -> bool;

    /// Nacks what is out and forgets what was fetched and never handed out: the end of a graceful
    /// stop. What is settled after this is too late.
    fn give_back(&mut self, now: Instant);

    /// Nothing in hand is ours any more, which is what those hear who wait.
    fn lose(&mut self, why: impl Fn() -> SettleError);

    fn set_window(&mut self, window: Window);

    /// Takes note that a row was handled and waits for its outputs. False when it is not out.
    fn handled(&mut self, token: Token) -> bool;

    /// Names what is handed out and unsettled.
    fn tokens(&self) -> Vec<Token>;

    /// How many are handed out and unsettled.
    fn out(&self) -> usize;

    /// How many rows wait that were never handed out.
    fn fresh(&self) -> usize;

    /// More rows are to be fetched when fewer than this are fresh.
    fn refill_below(&self, batch_size: usize) -> usize;

    /// How many rows are settled and not recorded, since when something is to be recorded, and whether
    /// somebody waits for that.
    fn unsaved(&self) -> (usize, Option<Instant>, bool);
}

/// A row that is handed out.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) sequence: u64,
    /// How often the row has been handed out by this subscription.
    pub(crate) delivery: u32,
    pub(crate) offset: i64,
    pub(crate) message: Message,
    pub(crate) published_at: Option<SystemTime>,
    pub(crate) attempt: u32,
    pub(crate) redelivered: bool,
}

impl Handed {
    /// The whole topic is one ordering scope, or has no order.
    pub(crate) fn token(&self) -> Token {
        Token { scope: 0, position: self.sequence, delivery: self.delivery }
    }
}

/// The place where they meet. Its lock is held for moments and never while something is awaited.
pub(crate) struct Desk<H> {
    state: Mutex<State<H>>,
    /// Tells the task that there is something to fetch or to record.
    pub(crate) work: Notify,
    /// Told once it is known who has the lease, or that it cannot be known.
    pub(crate) started: Notify,
    /// Cancelled to end the subscription.
    pub(crate) closing: CancellationToken,
    batch_size: usize,
    ack_interval: Duration,
    dead_letters: bool,
}

pub(crate) struct State<H> {
    pub(crate) hand: H,
    pub(crate) tell: Tell,
    /// Until when we own what is in hand, by our own clock: nothing is handed out later, so
    /// that an owner that was frozen past its lease does not go on where another has taken over.
    pub(crate) valid_until: Option<Instant>,
    pub(crate) health: Health,
    pub(crate) held_back: Option<HeldBack>,
    errors: VecDeque<SubscribeError>,
    pub(crate) stopped: bool,
    ended: bool,
    reader: Option<Waker>,
}

/// What the task is to be told while it sleeps, and that once. Awake, it looks at everything before it sleeps
/// again: of all that happens to a delivery, little need wake it.
#[derive(Debug, Default)]
pub(crate) struct Tell {
    /// That rows are to be fetched.
    pub(crate) wanted: bool,
    /// That outcomes are to be recorded before this time.
    pub(crate) recording_before: Option<Instant>,
}

impl<H: Hand> Desk<H> {
    pub(crate) fn new(batch_size: usize, ack_interval: Duration, dead_letters: bool) -> Self {
        Self {
            state: Mutex::new(State {
                hand: H::default(),
                tell: Tell::default(),
                valid_until: None,
                health: Health::Degraded { reason: "waiting for the lease".to_owned() },
                held_back: None,
                errors: VecDeque::new(),
                stopped: false,
                ended: false,
                reader: None,
            }),
            work: Notify::new(),
            started: Notify::new(),
            closing: CancellationToken::new(),
            batch_size,
            ack_interval,
            dead_letters,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State<H>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next thing on the stream.
    pub(crate) fn poll(&self, waker: &Waker) -> Poll<Option<Result<Handed, SubscribeError>>> {
        let now = Instant::now();
        let mut state = self.lock();
        if let Some(error) = state.errors.pop_front() {
            return Poll::Ready(Some(Err(error)));
        }
        if state.stopped || state.ended {
            return Poll::Ready(None);
        }
        let waiting = state.hand.fresh();
        let next = match state.valid_until {
            Some(valid_until) if now < valid_until => state.hand.next(now),
            _ => None,
        };
        let Some(handed) = next else {
            state.reader = Some(waker.clone());
            return Poll::Pending;
        };
        let enough = state.hand.refill_below(self.batch_size);
        let refill =
            waiting >= enough && state.hand.fresh() < enough && std::mem::take(&mut state.tell.wanted);
        drop(state);
        if refill {
            self.work.notify_one();
        }
        Poll::Ready(Some(Ok(handed)))
    }

    /// When outcomes are to be recorded: at once if a batch is full or somebody waits.
    pub(crate) fn record_at(&self, state: &State<H>) -> Option<Instant> {
        let (settled, since, awaited) = state.hand.unsaved();
        match awaited || settled >= self.batch_size {
            true => since,
            false => since.map(|since| since + self.ack_interval),
        }
    }

    /// Wakes the stream to look again.
    pub(crate) fn wake_reader(&self) {
        let reader = self.lock().reader.take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Puts trouble on the stream.
    pub(crate) fn report(&self, error: SubscribeError) {
        let mut state = self.lock();
        if state.errors.len() == ERRORS_MAX {
            state.errors.pop_front();
        }
        state.errors.push_back(error);
        drop(state);
        self.wake_reader();
    }

    pub(crate) fn status(&self, topic: &str, group: Option<&str>) -> SubscriptionStatus {
        let state = self.lock();
        SubscriptionStatus::new(topic, state.health.clone())
            .group(group)
            .outstanding(state.hand.out())
            .held_back_by(state.held_back.as_ref().map(|held| held.holder.clone()))
    }

    /// Ends the stream after what was handed out.
    pub(crate) fn stop_intake(&self) {
        self.lock().stopped = true;
        self.wake_reader();
        self.work.notify_one();
    }

    /// Whether intake has stopped and everything that was handed out is settled.
    pub(crate) fn is_through(&self) -> bool {
        let state = self.lock();
        state.stopped && state.hand.out() == 0
    }

    /// Ends it however the task ends, a panic or the end of the runtime included: nobody waits for it.
    pub(crate) fn end_when_dropped(self: &Arc<Self>) -> impl Drop + use<H> {
        struct End<H: Hand>(Arc<Desk<H>>);
        impl<H: Hand> Drop for End<H> {
            fn drop(&mut self) {
                self.0.end();
            }
        }
        End(self.clone())
    }

    /// The task is gone: nothing will come or be recorded any more.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        state.valid_until = None;
        state.health = Health::Ended;
        state.held_back = None;
        state.hand.lose(SettleError::unknown);
        drop(state);
        self.wake_reader();
        self.started.notify_one();
    }

    fn settle(&self, token: Token, outcome: Outcome, receipt: Option<Receipt>) {
        let now = Instant::now();
        let mut state = self.lock();
        state.hand.settle(token, outcome, receipt, self.dead_letters, now);
        let through = state.stopped && state.hand.out() == 0;
        let work = through || self.record_at(&state).is_some_and(|at| state.tell.of_outcome(at));
        let reader = state.reader.take();
        drop(state);
        if work {
            self.work.notify_one();
        }
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl Tell {
    /// Whether an outcome that is to be recorded at that time is news.
    fn of_outcome(&mut self, at: Instant) -> bool {
        self.recording_before.take_if(|before| at < *before).is_some()
    }
}

/// The way of outcomes to the desk.
pub(crate) struct Settler<H>(pub(crate) Arc<Desk<H>>);

impl<H: Hand> Settle for Settler<H> {
    fn settle(&self, token: Token, outcome: Outcome, receipt: Option<Receipt>) {
        if let Outcome::Reject { reason } = &outcome
            && !self.0.dead_letters
        {
            tracing::error!(reason, sequence = token.position, "a message was rejected and is dropped");
        }
        self.0.settle(token, outcome, receipt);
    }

    fn handled(&self, token: Token) {
        let mut state = self.0.lock();
        let reader = if state.hand.handled(token) { state.reader.take() } else { None };
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}
