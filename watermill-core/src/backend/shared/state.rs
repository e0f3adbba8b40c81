//! [`State`]: what the lock of a [`Shared`](super::Shared) guards.

use std::{collections::VecDeque, fmt, task::Waker, time::SystemTime};

use tokio::time::Instant;

use crate::{
    backend::Ledger,
    error::{SubscribeError, SubscribeErrorKind},
    subscription::Health,
};

/// How many errors wait for the stream's consumer; beyond that the oldest is forgotten that does not say that messages were
/// missed. What was missed is said once, and whoever keeps a cache has to hear it.
const ERRORS_MAX: usize = 16;

/// What the lock of a [`Shared`](super::Shared) guards.
pub struct State<L> {
    /// What is in hand.
    pub ledger: L,
    /// Whether the subscription gets on. Begins healthy.
    pub health: Health,
    /// How many messages the group has not settled, as it was last measured. Where it is `None`, what the
    /// [ledger knows](Ledger::lag) stands for it.
    pub lag: Option<u64>,
    /// When the oldest message was published that the group has not settled. Where it is `None`, the
    /// [ledger's oldest](Ledger::oldest) stands for it.
    pub oldest_unsettled: Option<SystemTime>,
    /// Who keeps the subscription from reading on, in words.
    pub held_back_by: Option<String>,
    /// What the subscription can do without and lacks just now, in words. While its health is well otherwise, its
    /// status is degraded for this.
    pub impaired_by: Option<String>,
    /// What the task is to be woken for while it sleeps. See [`WakeFor`].
    pub wake_for: WakeFor,
    pub(super) owned: Owned,
    pub(super) errors: VecDeque<SubscribeError>,
    pub(super) stopped: bool,
    pub(super) ended: bool,
    pub(super) reader: Option<Waker>,
}

/// What the task wants to be woken for, once. Awake it looks at everything before it sleeps again; of all
/// that happens to a delivery, little need wake it. [`Shared::wait`](super::Shared::wait) sees to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WakeFor {
    /// When the ledger begins to [want more](Ledger::wants_more).
    pub room: bool,
    /// When there is something to be recorded before this time.
    pub recording_before: Option<Instant>,
}

/// Whether what is in hand is ours.
#[derive(Clone, Copy, Debug)]
pub(super) enum Owned {
    Always,
    Until(Instant),
    No,
}

impl<L> State<L> {
    pub(super) fn new(ledger: L) -> Self {
        Self {
            ledger,
            health: Health::Healthy,
            lag: None,
            oldest_unsettled: None,
            held_back_by: None,
            impaired_by: None,
            wake_for: WakeFor::NOTHING,
            owned: Owned::Always,
            errors: VecDeque::new(),
            stopped: false,
            ended: false,
            reader: None,
        }
    }

    pub(super) fn push_error(&mut self, error: SubscribeError) {
        if self.errors.len() == ERRORS_MAX {
            let is_missed = |error: &SubscribeError| error.kind() == SubscribeErrorKind::Missed;
            // One that says so stands for all of them.
            let oldest = self.errors.iter().position(|error| !is_missed(error)).unwrap_or_default();
            self.errors.remove(oldest);
        }
        self.errors.push_back(error);
    }

    /// What is in hand is ours until then, by our own clock: nothing is handed out later, so that an owner
    /// that was frozen past its lease does not go on where another has taken over. Unless this or
    /// [`disown`](Self::disown) was called, there is no end.
    pub fn own_until(&mut self, until: Instant) {
        self.owned = Owned::Until(until);
    }

    /// Nothing is handed out before the next [`own_until`](Self::own_until).
    pub fn disown(&mut self) {
        self.owned = Owned::No;
    }

    /// Whether the stream takes nothing any more.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Something has worked again: the health is well, where it was not.
    pub fn recovered(&mut self) {
        if matches!(self.health, Health::Degraded { .. }) {
            self.health = Health::Healthy;
        }
    }

    /// The subscription does not get on just now, and why.
    pub fn degraded(&mut self, reason: impl Into<String>) {
        if !self.ended {
            self.health = Health::Degraded { reason: reason.into() };
        }
    }

    pub(super) fn is_owned(&self, now: Instant) -> bool {
        match self.owned {
            Owned::Always => true,
            Owned::Until(until) => now < until,
            Owned::No => false,
        }
    }

    /// Whether messages come to it: what is owned until some time is so, whatever else is the matter.
    pub(super) fn is_active(&self, now: Instant) -> bool {
        match self.owned {
            Owned::Always => self.health == Health::Healthy,
            _ => self.is_owned(now) && self.health != Health::Ended,
        }
    }
}

impl WakeFor {
    /// Nothing: the task is awake.
    pub const NOTHING: Self = Self { room: false, recording_before: None };

    /// Whether an outcome that is to be recorded at that time is news.
    pub(super) fn recording(&mut self, at: Instant) -> bool {
        self.recording_before.take_if(|before| at < *before).is_some()
    }
}

impl<L: Ledger> fmt::Debug for State<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("outstanding", &self.ledger.outstanding())
            .field("unrecorded", &self.ledger.unrecorded())
            .field("health", &self.health)
            .field("stopped", &self.stopped)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
