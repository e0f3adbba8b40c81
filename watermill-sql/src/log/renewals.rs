//! [`Renewals`]: the leases of all subscriptions of a subscriber are renewed together, so that an idle process asks for
//! that as seldom with a hundred subscriptions as with one.
//!
//! Whoever is due takes along the others that are due soon, and so all of them are due at the same time from then on. A
//! renewal of many decides nothing else: what it leaves out, because somebody has the row or the position is not the
//! one that we know, its owner asks about alone.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::time::Instant;
use watermill_core::backend::Shared;

use super::{lease::Lease, ledger::LogLedger};
use crate::position::Position;

/// The most leases that are renewed at once.
const LEASES_MAX: usize = 50;

/// The leases that a subscriber's subscriptions hold.
#[derive(Debug, Default)]
pub(crate) struct Renewals(Mutex<Vec<Weak<Held>>>);

/// A lease while it is held: for one term.
#[derive(Debug)]
pub(crate) struct Held {
    duration: Duration,
    shared: Arc<Shared<LogLedger>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    lease: Lease,
    renew_at: Instant,
    /// Until when it is in the hands of whoever renews many.
    taken_until: Option<Instant>,
    is_over: bool,
}

/// The end of a term.
#[derive(Debug)]
pub(crate) struct Term(Arc<Held>);

impl Renewals {
    /// Begins a term, and says when to renew the lease first.
    pub(crate) fn hold(
        &self,
        lease: Lease,
        duration: Duration,
        shared: Arc<Shared<LogLedger>>,
        renew_at: Instant,
    ) -> Term {
        let state = State { lease, renew_at, taken_until: None, is_over: false };
        let held = Arc::new(Held { duration, shared, state: Mutex::new(state) });
        let mut all = self.all();
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(&held));
        Term(held)
    }

    /// The leases that may be renewed with one that is due, which is the first; their owners leave them alone meanwhile.
    pub(crate) fn take(&self, due: &Term, now: Instant) -> Vec<(Arc<Held>, Lease)> {
        let first = {
            let mut state = due.0.state();
            state.taken_until = Some(now + due.0.duration / 10);
            state.lease.clone()
        };
        let mut taken = vec![(due.0.clone(), first)];
        for held in self.all().iter().filter_map(Weak::upgrade) {
            if taken.len() == LEASES_MAX {
                break;
            }
            if !Arc::ptr_eq(&held, &due.0)
                && held.duration == due.0.duration
                && let Some(lease) = held.take(now)
            {
                taken.push((held, lease));
            }
        }
        taken
    }

    fn all(&self) -> MutexGuard<'_, Vec<Weak<Held>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// The lease, if it is due soon and nobody has it.
    fn take(&self, now: Instant) -> Option<Lease> {
        let mut state = self.state();
        let is_taken = state.is_over || state.taken_until.is_some_and(|until| now < until);
        if is_taken || now + self.duration / 6 < state.renew_at {
            return None;
        }
        state.taken_until = Some(now + self.duration / 10);
        Some(state.lease.clone())
    }

    /// It was renewed by a question that was asked at this time.
    pub(crate) fn renewed(&self, asked: Instant) {
        // The ledger is locked first, here as where the position is recorded.
        let mut shared = self.shared.lock();
        let mut state = self.state();
        if state.is_over {
            return;
        }
        (state.renew_at, state.taken_until) = (asked + self.duration / 3, None);
        shared.own_until(asked + self.duration);
        drop((state, shared));
        // Had it run out meanwhile, the stream would be waiting.
        self.shared.wake_stream();
    }

    /// The position was recorded.
    pub(crate) fn advanced(&self, position: Position) {
        self.state().lease.position = position;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Term {
    /// When to renew it.
    pub(crate) fn renew_at(&self) -> Instant {
        let state = self.0.state();
        state.taken_until.map_or(state.renew_at, |until| until.max(state.renew_at))
    }

    /// It was renewed alone.
    pub(crate) fn renewed(&self, asked: Instant) {
        self.0.renewed(asked);
    }

    /// For who records in it.
    pub(crate) fn held(&self) -> Weak<Held> {
        Arc::downgrade(&self.0)
    }
}

impl Drop for Term {
    fn drop(&mut self) {
        self.0.state().is_over = true;
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use watermill_core::backend::SharedOptions;

    use super::*;
    use crate::{
        log::{Progress, ledger::Limits, recorder::Recorder},
        topic::Tables,
    };

    const LEASE: Duration = Duration::from_secs(6);

    fn ledger() -> LogLedger {
        LogLedger::new(Limits {
            batch_size: 1,
            batch_bytes: 1,
            max_ahead: 1,
            dead_letters: false,
            tells_passed: false,
        })
    }

    fn hold(renewals: &Renewals, topic: &str, now: Instant) -> Term {
        let shared = Arc::new(Shared::new(topic, None, ledger(), SharedOptions::default()));
        let lease = Lease {
            tables: Tables::new::<sqlx::Sqlite>(topic).unwrap(),
            group: String::new(),
            owner: "owner".to_owned(),
            token: 1,
            length: LEASE,
            position: Position::default(),
            locked_until: 0,
            witness: None,
        };
        renewals.hold(lease, LEASE, shared, now + LEASE / 3)
    }

    fn topics(taken: &[(Arc<Held>, Lease)]) -> Vec<&str> {
        taken.iter().map(|(_, lease)| lease.tables.topic()).collect()
    }

    #[test]
    fn who_is_due_takes_those_along_that_are_due_soon_and_then_all_are_due_together() {
        let (renewals, start) = (Renewals::default(), Instant::now());
        let due = hold(&renewals, "due", start);
        let soon = hold(&renewals, "soon", start + LEASE / 6);
        let _late = hold(&renewals, "late", start + LEASE / 4);
        let now = due.renew_at();
        assert_eq!(now, start + LEASE / 3);
        let taken = renewals.take(&due, now);
        assert_eq!(topics(&taken), ["due", "soon"]);
        taken.iter().for_each(|(held, _)| held.renewed(now));
        assert_eq!((due.renew_at(), soon.renew_at()), (now + LEASE / 3, now + LEASE / 3));
    }

    #[test]
    fn what_was_taken_and_not_renewed_is_renewed_alone_soon() {
        let (renewals, start) = (Renewals::default(), Instant::now());
        let (due, other) = (hold(&renewals, "due", start), hold(&renewals, "other", start));
        let now = due.renew_at();
        assert_eq!(renewals.take(&due, now).len(), 2);
        assert_eq!(renewals.take(&due, now).len(), 1, "it is in other hands");
        assert_eq!(other.renew_at(), now + LEASE / 10);
    }

    #[tokio::test]
    async fn a_position_that_was_recorded_is_that_of_the_next_renewal_whoever_sends_it() {
        let (renewals, start) = (Renewals::default(), Instant::now());
        let (due, other) = (hold(&renewals, "due", start), hold(&renewals, "other", start));
        let (lease, tables) = (other.0.state().lease.clone(), Tables::new::<sqlx::Sqlite>("other").unwrap());
        let recorder = Recorder::new::<sqlx::Sqlite>(lease, tables, None, other.held());
        let mut recording = recorder.join(LEASE).await.unwrap().unwrap();
        let mut ledger = ledger();
        ledger.begin(7.into(), Progress::default(), None);
        let save = ledger.save();
        recorder.committed(&mut recording, &mut ledger, save);
        let taken = renewals.take(&due, due.renew_at());
        assert_eq!((topics(&taken), taken[1].1.position), (vec!["due", "other"], 7.into()));
    }

    #[test]
    fn a_term_that_is_over_is_not_renewed_and_owns_nothing_any_more() {
        let (renewals, start) = (Renewals::default(), Instant::now());
        let (due, over) = (hold(&renewals, "due", start), hold(&renewals, "over", start));
        let now = due.renew_at();
        let taken = renewals.take(&due, now);
        let held = over.0.clone();
        drop(over);
        taken[1].0.renewed(now);
        assert_eq!(held.state().renew_at, now);
        assert_eq!(renewals.take(&due, now + LEASE).len(), 1);
    }
}
