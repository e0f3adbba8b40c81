//! [`run`]: the background task of a subscription over a [`Transport`].

use std::{
    collections::HashSet,
    pin::{Pin, pin},
    sync::Arc,
};

use futures::future::{Fuse, FusedFuture, FutureExt, join};
use tokio::time::{Duration, Instant, sleep, sleep_until, timeout};

use super::{Transport, TransportOptions};
use crate::{
    backend::{ById, Failure, Incoming, Ledger as _, Shared, State, Trouble, WakeFor},
    delivery::Origin,
};

/// How often a graceful end tries to record what it has.
const RECORD_TRIES: u32 = 4;

/// Runs until the subscription is closed or dropped, or the transport's trouble is
/// [`Closed`](Trouble::Closed): what a backend spawns for each of its subscriptions.
pub async fn run<T: Transport>(
    shared: Arc<Shared<ById<T::Id>>>,
    origin: Origin,
    transport: T,
    options: TransportOptions,
) {
    let task = shared.task();
    shared.start();
    let result = Driver { shared, origin, transport, options }.work().await;
    task.end(result);
}

struct Driver<T: Transport> {
    shared: Arc<Shared<ById<T::Id>>>,
    origin: Origin,
    transport: T,
    options: TransportOptions,
}

/// When the task does what.
struct Plan {
    poll_at: Instant,
    poll_interval: Duration,
    extend_at: Instant,
    /// Attempts that failed in a row, and until when to leave the server alone.
    failures: u32,
    rest_until: Option<Instant>,
}

/// The answer to one fetch.
struct Fetched<I> {
    asked: Instant,
    room: usize,
    messages: Vec<Incoming<I>>,
}

impl<T: Transport> Driver<T> {
    async fn work(&self) -> Result<(), String> {
        let now = Instant::now();
        let poll_interval = self.options.poll_interval_min;
        let mut plan = Plan { poll_at: now, poll_interval, extend_at: now, failures: 0, rest_until: None };
        let mut fetching = pin!(Fuse::terminated());
        let mut recording = pin!(Fuse::terminated());
        let mut timer = pin!(sleep_until(now));
        while !self.shared.is_over() {
            let now = Instant::now();
            self.shared.lock().wake_for = WakeFor::NOTHING;
            if plan.rest_until.is_none_or(|until| until <= now) {
                plan.rest_until = None;
                let room = room(&self.shared.lock());
                if room > 0 && plan.poll_at <= now && fetching.is_terminated() {
                    fetching.set(self.fetch(room).fuse());
                }
                let record_at = self.record_at(&plan, &self.shared.lock());
                if record_at.is_some_and(|at| at <= now) && recording.is_terminated() {
                    recording.set(self.extend_and_record(self.extends_at(&plan, now)).fuse());
                }
            }
            let until = self.sleeps_until(&plan, fetching.is_terminated(), recording.is_terminated());
            // Set anew only to end earlier, because that takes a system call: it may end too early, which does
            // no harm.
            if until < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(until);
            }
            let done = tokio::select! {
                () = self.shared.closing().cancelled() => continue,
                fetched = &mut fetching => fetched.map(|fetched| self.fetched(&mut plan, fetched)),
                recorded = &mut recording => {
                    recorded.map(|extended| plan.extend_at = extended.unwrap_or(plan.extend_at))
                }
                () = self.shared.work() => continue,
                () = self.transport.wake() => {
                    plan.poll_interval = self.options.poll_interval_min;
                    plan.poll_at = Instant::now();
                    continue;
                }
                () = timer.as_mut() => continue,
            };
            match done {
                Ok(()) => self.recovered(&mut plan),
                Err(failure) => {
                    if self.failed(&mut plan, failure) {
                        break;
                    }
                }
            }
        }
        self.finish(fetching, recording).await
    }

    async fn fetch(&self, room: usize) -> Result<Fetched<T::Id>, Failure> {
        let asked = Instant::now();
        let messages = self.transport.fetch(room, self.shared.closing()).await?;
        Ok(Fetched { asked, room, messages })
    }

    /// Takes in what a fetch has found, and says when to fetch again.
    fn fetched(&self, plan: &mut Plan, Fetched { asked, room, messages }: Fetched<T::Id>) {
        let now = Instant::now();
        let (min, max) = (self.options.poll_interval_min, self.options.poll_interval_max);
        if messages.is_empty() {
            plan.poll_at = now + plan.poll_interval;
            plan.poll_interval = (plan.poll_interval * 2).min(max);
            return;
        }
        plan.poll_interval = min;
        let is_all = messages.len() < room && !self.options.fetch_waits;
        plan.poll_at = if is_all { now + min } else { now };
        let mut state = self.shared.lock();
        if let Some(lease) = self.options.lease
            && state.ledger.is_empty()
        {
            state.own_until(asked + lease);
            plan.extend_at = asked + lease / 3;
        }
        messages.into_iter().for_each(|message| state.ledger.push(message, now));
        drop(state);
        self.shared.wake_stream();
    }

    /// When to extend, if now.
    fn extends_at(&self, plan: &Plan, now: Instant) -> Option<Duration> {
        self.options.lease.filter(|_| plan.extend_at <= now)
    }

    /// Extends what is in hand, if that is due, and records. Returns when to extend again.
    async fn extend_and_record(&self, lease: Option<Duration>) -> Result<Option<Instant>, Failure> {
        let extend_at = match lease {
            Some(lease) => Some(self.extend(lease).await?),
            None => None,
        };
        self.record().await?;
        Ok(extend_at)
    }

    async fn extend(&self, lease: Duration) -> Result<Instant, Failure> {
        let asked = Instant::now();
        let in_hand: Vec<_> = self.shared.lock().ledger.in_hand().map(|message| message.id.clone()).collect();
        if !in_hand.is_empty() {
            let lost: HashSet<_> = self.transport.extend(in_hand).await?.into_iter().collect();
            if !lost.is_empty() {
                let (topic, count) = (self.shared.topic(), lost.len());
                tracing::warn!(topic, count, "messages were in hand too long and are with others");
                self.shared.lose_where(&self.origin, |id| lost.contains(id));
            }
            self.shared.lock().own_until(asked + lease);
            // Had it run out meanwhile, the stream would be waiting.
            self.shared.wake_stream();
        }
        Ok(asked + lease / 3)
    }

    /// Records everything that is settled.
    async fn record(&self) -> Result<(), Failure> {
        loop {
            let mut settled = self.shared.lock().ledger.take_settled(self.options.record_max);
            if settled.is_empty() {
                return Ok(());
            }
            if let Err(failure) = self.transport.record(&mut settled).await {
                self.shared.lock().ledger.keep_settled(settled, Instant::now());
                return Err(failure);
            }
            settled.into_iter().for_each(|settled| settled.recorded());
        }
    }

    /// When outcomes are to be recorded or messages to be extended.
    fn record_at(&self, plan: &Plan, state: &State<ById<T::Id>>) -> Option<Instant> {
        let extends = self.options.lease.is_some() && !state.ledger.is_empty();
        let extend_at = extends.then_some(plan.extend_at);
        extend_at.into_iter().chain(self.shared.record_at(state)).min()
    }

    /// When there is something to do, if nothing happens before that. What is under way tells by itself when
    /// it is done.
    fn sleeps_until(&self, plan: &Plan, may_fetch: bool, may_record: bool) -> Instant {
        const A_WHILE: Duration = Duration::from_secs(60);
        let mut state = self.shared.lock();
        let fetch_at = (may_fetch && room(&state) > 0).then_some(plan.poll_at);
        let record_at = if may_record { self.record_at(plan, &state) } else { None };
        let until = fetch_at.into_iter().chain(record_at).min().unwrap_or_else(|| Instant::now() + A_WHILE);
        state.wake_for = WakeFor { room: may_fetch, recording_before: may_record.then_some(until) };
        plan.rest_until.map_or(until, |rest_until| until.max(rest_until))
    }

    fn recovered(&self, plan: &mut Plan) {
        if std::mem::take(&mut plan.failures) > 0 {
            tracing::info!(topic = self.shared.topic(), "the server answers again");
        }
        self.shared.lock().recovered();
    }

    /// Trouble: when to try again; true when that is never.
    fn failed(&self, plan: &mut Plan, failure: Failure) -> bool {
        let (topic, reason) = (self.shared.topic(), failure.text());
        let wait = self.options.retry.delay(plan.failures);
        plan.rest_until = Some(Instant::now() + wait);
        plan.failures = plan.failures.saturating_add(1);
        let is_over = failure.trouble() == Trouble::Closed;
        match is_over {
            true => tracing::error!(topic, reason, "the subscription ends"),
            false => tracing::warn!(topic, reason, ?wait, "the server fails, trying again"),
        }
        self.shared.lock().degraded(reason);
        self.shared.report(failure.subscribing(topic));
        is_over
    }

    /// Gives everything back and records it: the graceful end.
    async fn finish<F, R>(
        &self,
        fetching: Pin<&mut Fuse<F>>,
        recording: Pin<&mut Fuse<R>>,
    ) -> Result<(), String>
    where
        F: Future<Output = Result<Fetched<T::Id>, Failure>>,
        R: Future<Output = Result<Option<Instant>, Failure>>,
    {
        self.shared.closing().cancel();
        self.shared.give_back(&self.origin);
        let recorded = async {
            // What a fetch that is under way gets is for others. Side by side, for each may have what the other
            // waits for.
            let (fetched, _) = join(unless_terminated(fetching), unless_terminated(recording)).await;
            if let Some(Ok(Fetched { messages, .. })) = fetched {
                let mut state = self.shared.lock();
                let now = Instant::now();
                messages.into_iter().for_each(|message| state.ledger.push(message, now));
                state.ledger.give_back(now);
            }
            let mut tries = 1;
            let recorded = loop {
                match self.record().await {
                    Err(failure) if failure.is_passing() && tries < RECORD_TRIES => {
                        sleep(self.options.retry.delay(tries - 1)).await;
                        tries += 1;
                    }
                    recorded => break recorded.map_err(|failure| failure.text()),
                }
            };
            self.transport.close().await;
            recorded
        };
        let at_most = self.options.close_timeout;
        let recorded = timeout(at_most, recorded).await;
        recorded.unwrap_or_else(|_| Err(format!("the server did not answer within {at_most:?}")))
    }
}

/// How many messages to fetch.
fn room<I: Send + 'static>(state: &State<ById<I>>) -> usize {
    if state.is_stopped() || !state.ledger.wants_more() { 0 } else { state.ledger.room() }
}

async fn unless_terminated<F: Future>(mut future: Pin<&mut Fuse<F>>) -> Option<F::Output> {
    if future.is_terminated() { None } else { Some(future.as_mut().await) }
}
