//! The breaker itself: what is counted, and who may enter.

use std::{
    error::Error,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use tokio::{
    sync::{Notify, futures::OwnedNotified},
    time::Instant,
};

use crate::error::{Classifier, Verdict};

/// What a [`CircuitBreaker`](super::CircuitBreaker) is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Messages pass.
    Closed,
    /// The intake is held.
    Open,
    /// The time is over, and one message is let through to see.
    HalfOpen,
}

#[derive(Clone)]
pub(super) struct Rules {
    pub(super) failures_max: u32,
    pub(super) open_for: Duration,
    pub(super) classifier: Classifier,
    pub(super) on_change: Option<Arc<dyn Fn(BreakerState) + Send + Sync>>,
}

pub(super) struct Breaker {
    rules: Rules,
    position: Mutex<Position>,
    /// Told when a probe has ended.
    changed: Arc<Notify>,
}

#[derive(Clone, Copy)]
struct Position {
    phase: Phase,
    /// Goes up with every change of state; results of calls that began before do not count.
    generation: u64,
}

#[derive(Clone, Copy)]
enum Phase {
    Closed { failures: u32 },
    Open { until: Instant },
    HalfOpen { probes: u32 },
}

/// Whether a message may be taken.
pub(super) enum Entry {
    Free,
    At(Instant),
    AfterChange(Pin<Box<OwnedNotified>>),
}

/// A call in progress. Dropped without a result it does not count, unless a panic drops it.
pub(super) struct Ticket {
    breaker: Arc<Breaker>,
    generation: u64,
    reported: bool,
}

enum Ending {
    Success,
    Failure,
    Neither,
}

impl Breaker {
    pub(super) fn new(rules: Rules) -> Arc<Self> {
        let position = Position { phase: Phase::Closed { failures: 0 }, generation: 0 };
        Arc::new(Self { rules, position: Mutex::new(position), changed: Arc::default() })
    }

    pub(super) fn state(&self) -> BreakerState {
        self.change(|position| position.state())
    }

    pub(super) fn enter(&self) -> Entry {
        self.change(|position| match position.phase {
            Phase::Closed { .. } => Entry::Free,
            Phase::Open { until } if Instant::now() < until => Entry::At(until),
            Phase::Open { .. } => {
                position.set(Phase::HalfOpen { probes: 0 });
                Entry::Free
            }
            Phase::HalfOpen { probes: 0 } => Entry::Free,
            Phase::HalfOpen { .. } => {
                // Made under the lock, it hears of every end of a probe from now on.
                let mut change = Box::pin(self.changed.clone().notified_owned());
                change.as_mut().enable();
                Entry::AfterChange(change)
            }
        })
    }

    pub(super) fn begin(self: &Arc<Self>) -> Ticket {
        let generation = self.change(|position| {
            if let Phase::HalfOpen { probes } = &mut position.phase {
                *probes += 1;
            }
            position.generation
        });
        Ticket { breaker: self.clone(), generation, reported: false }
    }

    fn end(&self, generation: u64, ending: &Ending) {
        self.change(|position| {
            if position.generation != generation {
                return;
            }
            let open = Phase::Open { until: Instant::now() + self.rules.open_for };
            match (&mut position.phase, ending) {
                (Phase::Closed { failures }, Ending::Success) => *failures = 0,
                (Phase::Closed { failures }, Ending::Failure) => {
                    *failures += 1;
                    if *failures >= self.rules.failures_max {
                        position.set(open);
                    }
                }
                (Phase::HalfOpen { .. }, Ending::Success) => position.set(Phase::Closed { failures: 0 }),
                (Phase::HalfOpen { .. }, Ending::Failure) => position.set(open),
                (Phase::HalfOpen { probes }, Ending::Neither) => *probes -= 1,
                (Phase::Closed { .. }, Ending::Neither) | (Phase::Open { .. }, _) => {}
            }
        });
        self.changed.notify_waiters();
    }

    /// Changes the position, and tells of a new state once the lock is free again.
    fn change<T>(&self, change: impl FnOnce(&mut Position) -> T) -> T {
        let mut position = self.position.lock().unwrap_or_else(PoisonError::into_inner);
        let before = position.generation;
        let result = change(&mut position);
        let after = *position;
        drop(position);
        if after.generation != before {
            self.tell(after.state());
        }
        result
    }

    fn tell(&self, state: BreakerState) {
        match state {
            BreakerState::Open => {
                tracing::warn!(open_for = ?self.rules.open_for, "circuit breaker opened, the intake waits");
            }
            BreakerState::HalfOpen | BreakerState::Closed => tracing::info!(?state, "circuit breaker"),
        }
        if let Some(hook) = &self.rules.on_change {
            hook(state);
        }
    }
}

impl Position {
    fn set(&mut self, phase: Phase) {
        self.phase = phase;
        self.generation += 1;
    }

    fn state(&self) -> BreakerState {
        match self.phase {
            Phase::Closed { .. } => BreakerState::Closed,
            Phase::Open { .. } => BreakerState::Open,
            Phase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }
}

impl Ticket {
    pub(super) fn succeeded(&mut self) {
        self.report(&Ending::Success);
    }

    pub(super) fn failed(&mut self, error: &(dyn Error + 'static)) {
        let counts = self.breaker.rules.classifier.verdict(error) == Verdict::Retry;
        self.report(if counts { &Ending::Failure } else { &Ending::Neither });
    }

    /// Runs `poll`, whose panic is a failure. The future that panics is dropped later, by whoever
    /// catches the panic, so that its drop comes too late to tell.
    pub(super) fn watch<T>(&mut self, poll: impl FnOnce() -> T) -> T {
        struct Guard<'a>(&'a mut Ticket);
        impl Drop for Guard<'_> {
            fn drop(&mut self) {
                if thread::panicking() {
                    self.0.report(&Ending::Failure);
                }
            }
        }
        let _guard = Guard(self);
        poll()
    }

    fn report(&mut self, ending: &Ending) {
        if !self.reported {
            self.reported = true;
            self.breaker.end(self.generation, ending);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.report(if thread::panicking() { &Ending::Failure } else { &Ending::Neither });
    }
}
