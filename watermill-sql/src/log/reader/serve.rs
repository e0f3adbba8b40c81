//! A term of ownership: what is done when.

use std::{pin::pin, sync::Arc, time::Duration};

use futures::future::{Fuse, FutureExt as _};
use tokio::time::{Instant, sleep_until};
use watermill_core::backend::WakeFor;

use super::{
    Reader,
    intake::{Fetching, wants_rows},
    keep::Keeping,
    leaving::Leave,
};
use crate::{
    error::{Failure, Trouble},
    log::{dialect::LogDialect, lease::Lease, recorder::Recorder},
    pace::{self, Pace},
    wake,
};

/// How long a fetch may take that is under way in the end.
const FETCH_MAX: Duration = Duration::from_secs(1);

/// How a term of ownership ended.
pub(super) enum Over {
    /// With the subscription, and whether everything was recorded.
    Ended(Result<(), String>),
    Lost,
    /// A shard was given back, and nothing of it is in hand.
    Left(Leave),
}

/// How the two things get on that are done side by side.
#[derive(Default)]
struct Paces {
    fetching: Pace,
    keeping: Pace,
}

impl<D: LogDialect> Reader<D> {
    /// Fetches rows, and keeps the lease and records outcomes, until the lease is lost or the subscription ends.
    pub(super) async fn serve(&self, lease: Lease, published: &mut wake::WakeUps) -> Over {
        let now = Instant::now();
        let mut paces = Paces::default();
        // What is not under way; what is brings its state back when it is done.
        let mut to_fetch = Some(Fetching::new(lease.clone(), &self.config, now));
        // The first renewal says by which connection others see that we live.
        let renew_at = if D::SEES_CONNECTIONS { now } else { now + self.config.lease / 3 };
        let term = self.renewals.hold(lease.clone(), self.config.lease, self.shared.clone(), renew_at);
        let recorder = Recorder::new::<D>(lease, self.tables.clone(), self.dead_letters.clone(), term.held());
        let recorder = Arc::new(recorder);
        self.shared.lock().ledger.acks_join(recorder.clone());
        let mut to_keep = Some(Keeping::new(recorder.clone(), term));
        let (mut fetching, mut keeping) = (pin!(Fuse::terminated()), pin!(Fuse::terminated()));
        let mut is_published = false;
        // Set anew only to end earlier, because that takes a system call: it may end too early, which
        // does no harm.
        let mut timer = pin!(sleep_until(now));
        // Whoever stops taking and has settled everything need not be waited for.
        while !self.shared.is_over() {
            let now = Instant::now();
            if let Some(leave) = to_fetch.as_mut().and_then(|state| self.may_leave(state, now))
                && let Some(state) = &mut to_keep
            {
                self.give_back_shard(state).await;
                return Over::Left(leave);
            }
            self.shared.lock().wake_for = WakeFor::NOTHING;
            let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
            if let Some(state) = to_fetch.take_if(|state| is_due(self.fetch_at(&paces, state))) {
                fetching.set(self.fetch(state).fuse());
            }
            if let Some(state) = to_keep.take_if(|state| is_due(Some(self.keep_at(&paces, state)))) {
                keeping.set(self.keep(state).fuse());
            }
            let until = self.sleeps_until(&paces, &mut to_fetch, &mut to_keep);
            if until < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(until);
            }
            let failure = tokio::select! {
                () = self.shared.closing().cancelled() => None,
                (state, fetched) = &mut fetching => {
                    let state = to_fetch.insert(state);
                    if std::mem::take(&mut is_published) {
                        state.poll_now();
                    }
                    self.fetched(&mut paces, fetched)
                }
                (state, kept) = &mut keeping => {
                    to_keep = Some(state);
                    match self.kept(&mut paces, kept) {
                        Ok(true) => None,
                        Ok(false) => return Over::Lost,
                        Err(failure) => Some(failure),
                    }
                }
                () = self.shared.work() => None,
                () = recorder.left() => None,
                () = published.woken() => {
                    match &mut to_fetch {
                        Some(state) => state.poll_now(),
                        None => is_published = true,
                    }
                    None
                }
                () = timer.as_mut() => None,
            };
            match failure {
                Some((failure, _)) if failure.trouble() == Trouble::Closed => {
                    self.trouble(failure, None);
                    break;
                }
                Some((failure, wait)) => self.trouble(failure, Some(wait)),
                None => {}
            }
        }
        // Only what is polled gets on, or lets go of the connection that it has or is promised by the pool, which may
        // have one: so both go on until the fetch has ended, or is dropped because it takes long.
        let mut too_long = pin!(sleep_until(Instant::now() + FETCH_MAX));
        let cursor = loop {
            if let Some(state) = to_fetch {
                break state.cursor;
            }
            if let Some(state) = &mut to_keep {
                state.give_back();
            }
            tokio::select! {
                (state, _) = &mut fetching => to_fetch = Some(state),
                (state, _) = &mut keeping => to_keep = Some(state),
                () = &mut too_long => break None,
            }
        };
        fetching.set(Fuse::terminated());
        Over::Ended(self.finish(cursor, to_keep, keeping).await)
    }

    /// What a fetch has come to: a failure, and how long to wait.
    fn fetched(&self, paces: &mut Paces, fetched: Result<(), Failure>) -> Option<(Failure, Duration)> {
        let Err(failure) = fetched else {
            self.recovered(paces.fetching.succeeded(), &paces.keeping);
            return None;
        };
        let wait = self.config.retry.delay(paces.fetching.failures());
        paces.fetching.failed(wait);
        Some((failure, wait))
    }

    /// The same of keeping the lease; false when it is lost.
    fn kept(&self, paces: &mut Paces, kept: Result<bool, Failure>) -> Result<bool, (Failure, Duration)> {
        match kept {
            Ok(true) => self.recovered(paces.keeping.succeeded(), &paces.fetching),
            Ok(false) => return Ok(false),
            Err(failure) => {
                // So that it is tried again while the lease lasts.
                let wait = self.config.retry.delay(paces.keeping.failures()).min(self.config.lease / 6);
                paces.keeping.failed(wait);
                return Err((failure, wait));
            }
        }
        Ok(true)
    }

    /// When there is something to do, if nothing happens before that the task is woken for. What is under way
    /// tells by itself when it is done. Connections go back that were kept for long enough.
    fn sleeps_until(
        &self,
        paces: &Paces,
        to_fetch: &mut Option<Fetching<D>>,
        to_keep: &mut Option<Keeping<D>>,
    ) -> Instant {
        let now = Instant::now();
        let keep_at = to_keep.as_ref().map(|state| self.keep_at(paces, state));
        let fetch_at = to_fetch.as_ref().and_then(|state| self.fetch_at(paces, state));
        self.rest(pace::rests(fetch_at, now));
        let leaves_by = to_fetch.as_ref().and_then(|state| state.leaving.until());
        let until = keep_at.into_iter().chain(fetch_at).chain(leaves_by).min();
        let until = until.unwrap_or(now + self.config.lease);
        self.shared.lock().wake_for =
            WakeFor { room: to_fetch.is_some(), recording_before: to_keep.as_ref().map(|_| until) };
        let let_go = [
            to_fetch.as_mut().and_then(|state| state.let_go(now)),
            to_keep.as_mut().and_then(|state| state.let_go(now)),
        ];
        let_go.into_iter().flatten().fold(until, Instant::min)
    }

    /// When rows are to be fetched.
    fn fetch_at(&self, paces: &Paces, state: &Fetching<D>) -> Option<Instant> {
        let wants = state.leaving.why().is_none() && wants_rows(&self.shared.lock());
        wants.then(|| paces.fetching.not_before(state.due()))
    }

    /// When the lease is to be renewed, or something recorded.
    fn keep_at(&self, paces: &Paces, state: &Keeping<D>) -> Instant {
        let record_at = self.shared.record_at(&self.shared.lock());
        let renew_at = state.term.renew_at();
        let at = record_at.map_or(renew_at, |record_at| record_at.min(renew_at));
        paces.keeping.not_before(at)
    }

    /// One of the two works, which has failed so often before.
    fn recovered(&self, failures: u32, other: &Pace) {
        if failures > 0 {
            tracing::info!(
                topic = self.tables.topic(),
                group = self.config.group_name(),
                "the database answers again"
            );
        }
        let mut state = self.shared.lock();
        if other.failures() == 0 && state.held_back_by.is_none() {
            state.recovered();
        }
    }
}
