//! [`Desk`]: what a subscription's stream, its background task and its deliveries share, and how an
//! outcome gets from one to the other.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use watermill_core::{
    delivery::{Outcome, Receipt, Settle, Token},
    error::{SettleError, SubscribeError},
    subscription::Health,
};

use crate::{
    held_back::HeldBack,
    ledger::{Handed, Ledger},
};

/// Errors that nobody has read yet; older ones are in the log.
const ERRORS_MAX: usize = 16;

/// The place where they meet. Its lock is held for moments and never while something is awaited.
pub(crate) struct Desk {
    state: Mutex<State>,
    /// Tells the task that there is something to fetch or to record.
    pub(crate) work: Notify,
    /// Told once it is known who has the lease, or that it cannot be known.
    pub(crate) started: Notify,
    /// Cancelled to end the subscription.
    pub(crate) closing: CancellationToken,
    batch_size: usize,
    dead_letters: bool,
}

pub(crate) struct State {
    pub(crate) ledger: Ledger,
    /// Until when we own what is in the ledger, by our own clock: nothing is handed out later, so
    /// that an owner that was frozen past its lease does not go on where another has taken over.
    pub(crate) valid_until: Option<Instant>,
    pub(crate) health: Health,
    pub(crate) held_back: Option<HeldBack>,
    errors: VecDeque<SubscribeError>,
    pub(crate) stopped: bool,
    ended: bool,
    reader: Option<Waker>,
}

impl Desk {
    pub(crate) fn new(batch_size: usize, dead_letters: bool) -> Self {
        Self {
            state: Mutex::new(State {
                ledger: Ledger::new(),
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
            dead_letters,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
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
        let waiting = state.ledger.fresh();
        let next = match state.valid_until {
            Some(valid_until) if now < valid_until => state.ledger.next(now),
            _ => None,
        };
        let Some(handed) = next else {
            state.reader = Some(waker.clone());
            return Poll::Pending;
        };
        let enough = refill_below(self.batch_size);
        let refill = waiting >= enough && state.ledger.fresh() < enough;
        drop(state);
        if refill {
            self.work.notify_one();
        }
        Poll::Ready(Some(Ok(handed)))
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

    /// Ends the stream after what was handed out.
    pub(crate) fn stop_intake(&self) {
        self.lock().stopped = true;
        self.wake_reader();
        self.work.notify_one();
    }

    /// Whether intake has stopped and everything that was handed out is settled.
    pub(crate) fn is_through(&self) -> bool {
        let state = self.lock();
        state.stopped && state.ledger.out() == 0
    }

    /// The task is gone: nothing will come or be recorded any more.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        state.valid_until = None;
        state.health = Health::Ended;
        state.held_back = None;
        state.ledger.lose(SettleError::unknown);
        drop(state);
        self.wake_reader();
        self.started.notify_one();
    }

    fn settle(&self, sequence: u64, outcome: Outcome, receipt: Option<Receipt>) {
        let now = Instant::now();
        let urgent = receipt.is_some();
        let mut state = self.lock();
        let (_, since, _) = state.ledger.unsaved();
        state.ledger.settle(sequence, outcome, receipt, self.dead_letters, now);
        let (acks, ..) = state.ledger.unsaved();
        // The task sets its timer at the first unrecorded outcome, and records when a batch is full.
        let through = state.stopped && state.ledger.out() == 0;
        let work = urgent || through || since.is_none() || acks == self.batch_size;
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

/// More rows are fetched when fewer than this wait.
pub(crate) fn refill_below(batch_size: usize) -> usize {
    batch_size.div_ceil(2)
}

/// The way of outcomes to the desk.
pub(crate) struct Settler(pub(crate) Arc<Desk>);

impl Settle for Settler {
    fn settle(&self, token: Token, outcome: Outcome, receipt: Option<Receipt>) {
        if let Outcome::Reject { reason } = &outcome
            && !self.0.dead_letters
        {
            tracing::error!(reason, sequence = token.position, "a message was rejected and is dropped");
        }
        self.0.settle(token.position, outcome, receipt);
    }
}
