//! [`Pull`]: the task of a subscription. It reads the stream, tells the service what became of messages, and
//! looks after the stream and the leases.

mod ending;
mod intake;
mod probe;

use std::{future::pending, sync::Arc, time::Duration};

use futures::FutureExt;
use google_cloud_pubsub::{
    client::Subscriber as Client,
    model::Message as Native,
    subscriber::{ShutdownToken, handler::Handler},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use watermill_core::{
    Message,
    backend::{ById, Failure, Incoming, Settled, Shared, Trouble, key_scope},
    delivery::{Origin, Outcome},
};

use crate::{
    PubSubDelivery, PubSubSubscriberConfig,
    lease::Lease,
    marshaler,
    returning::Returning,
    settle::Settling,
    subscriptions::{Known, Subscriptions},
};
use intake::{Intake, Next};
use probe::Probe;

/// How long a nacked message is waited for, beyond the wait that the service was asked for.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often leases are looked at, at most.
const LEASES_EVERY: Duration = Duration::from_secs(1);

pub(crate) type State = Shared<ById<Lease>>;

/// See above.
pub(crate) struct Pull {
    shared: Arc<State>,
    origin: Origin,
    config: PubSubSubscriberConfig,
    subscriptions: Arc<Subscriptions>,
    client: Client,
    name: String,
    known: Known,
    /// Cancelled when the stream is polled for the first time: nothing is fetched before.
    asked: CancellationToken,
    intake: Intake,
    probe: Probe,
    settling: Settling,
    returning: Returning<Came>,
    /// The last lease of a stream that is to end, see [`Self::stop`].
    kept: Option<Handler>,
    /// Ends of streams, some of which may have messages out.
    streams: Vec<ShutdownToken>,
    /// Counts the scopes of messages without a key.
    unkeyed: u64,
    /// How often in a row the stream has failed.
    failures: u32,
    leases_at: Instant,
    /// When a message came last.
    heard_at: Instant,
}

/// A message that has come and was not pushed yet.
#[derive(Debug)]
struct Came {
    lease: Lease,
    message: Message,
    scope: u64,
    attempt: u32,
    published_at: Option<std::time::SystemTime>,
}

/// What a [`Pull`] begins with.
pub(crate) struct Beginning {
    pub(crate) shared: Arc<State>,
    pub(crate) origin: Origin,
    pub(crate) config: PubSubSubscriberConfig,
    pub(crate) subscriptions: Arc<Subscriptions>,
    pub(crate) client: Client,
    pub(crate) known: Known,
    pub(crate) asked: CancellationToken,
    pub(crate) settling: Settling,
}

impl Pull {
    pub(crate) fn new(beginning: Beginning) -> Self {
        let Beginning { shared, origin, config, subscriptions, client, known, asked, settling } = beginning;
        let (name, now) = (config.subscription(shared.topic()), Instant::now());
        Self {
            probe: Probe::new(config.probe_interval, config.retry, now),
            returning: Returning::new(PATIENCE + known.retry_max),
            shared,
            origin,
            config,
            subscriptions,
            client,
            name,
            known,
            asked,
            intake: Intake::Off,
            settling,
            kept: None,
            streams: Vec::new(),
            unkeyed: 0,
            failures: 0,
            leases_at: now,
            heard_at: now,
        }
    }

    /// Runs until the subscription is over and everything is recorded, or cannot be in time.
    pub(crate) async fn run(mut self) {
        let task = self.shared.clone().task();
        self.shared.start();
        while !self.shared.is_over() {
            self.step().await;
        }
        let ended = self.finish().await;
        task.end(ended);
    }

    /// One turn: what is due, then the next thing that happens.
    async fn step(&mut self) {
        let settled = self.take_settled();
        self.tell(settled);
        let now = Instant::now();
        self.look_at_leases(now);
        self.give_up(now);
        if self.shared.lock().is_stopped() {
            self.stop().await;
        } else if matches!(self.intake, Intake::Off) && self.asked.is_cancelled() {
            self.intake = self.open();
        }
        self.probe.begin(&self.intake, &self.subscriptions, &self.name, now);
        let (reads, until) = (self.has_room(), self.until(now));
        let asked = self.asked.is_cancelled();
        tokio::select! {
            next = self.intake.next(reads) => self.on_next(next),
            () = self.shared.wait(false, until) => {}
            () = self.settling.one() => {}
            () = self.asked.cancelled(), if !asked => {}
            found = self.probe.found() => self.on_probed(found),
        }
    }

    fn on_next(&mut self, next: Next) {
        match next {
            Next::Message(native, handler) => self.on_message(native, handler),
            Next::Failed(failure) => self.on_failure(failure),
            Next::Mended(Ok(known)) => {
                self.known = known;
                self.returning.set_patience(PATIENCE + known.retry_max);
                self.shared.lock().recovered();
                self.intake = self.open();
            }
            Next::Mended(Err(failure)) => self.on_failure(failure),
            Next::Waited => {
                let (subscriptions, topic) = (self.subscriptions.clone(), self.shared.topic().to_owned());
                self.intake = Intake::Mending(async move { subscriptions.ensure(&topic).await }.boxed());
            }
        }
    }

    fn on_message(&mut self, native: Native, handler: Handler) {
        if self.shared.lock().is_stopped() {
            // See `stop`: the stream may go now.
            self.kept.get_or_insert(handler);
            return;
        }
        let now = Instant::now();
        self.failures = 0;
        self.heard_at = now;
        self.probe.heard(now);
        self.shared.lock().recovered();
        self.take_in(native, handler, now);
        // What came with it needs no turn of its own.
        while self.has_room()
            && let Some((native, handler)) = self.intake.ready()
        {
            self.take_in(native, handler, now);
        }
        self.shared.wake_stream();
    }

    fn take_in(&mut self, mut native: Native, handler: Handler, now: Instant) {
        self.unkeyed += 1;
        let published_at = marshaler::published_at(&native);
        let ordered_in =
            (self.config.ordered && !native.ordering_key.is_empty()).then(|| key_scope(&native.ordering_key));
        let delivery_attempt = handler.delivery_attempt().and_then(|attempt| u32::try_from(attempt).ok());
        let pubsub = PubSubDelivery {
            message_id: native.message_id.clone(),
            ordering_key: (!native.ordering_key.is_empty()).then(|| native.ordering_key.clone()),
            published_at,
            delivery_attempt,
        };
        let message = marshaler::read(&mut native, self.config.go_metadata).with_extension(pubsub);
        let lease = Lease {
            handler: Some(handler),
            message_id: native.message_id,
            ordered_in,
            place: 0,
            received: now,
            is_last_attempt: self.known.attempts_max.is_some_and(|max| delivery_attempt >= Some(max)),
        };
        // Without a key it is a scope of its own, counted from the end.
        let scope = ordered_in.unwrap_or(u64::MAX - self.unkeyed);
        let came = Came { lease, message, scope, attempt: delivery_attempt.unwrap_or(1), published_at };
        match ordered_in {
            Some(scope) => {
                let id = came.lease.message_id.clone();
                let free = self.returning.came(scope, &id, came, now);
                free.into_iter().for_each(|(place, came)| self.push(place, came, now));
            }
            None => self.push(0, came, now),
        }
    }

    fn push(&self, place: u64, mut came: Came, now: Instant) {
        if came.lease.received + self.config.max_lease <= now {
            // It was held for too long: it comes again, here or to somebody else.
            return;
        }
        came.lease.place = place;
        let incoming = Incoming::new(came.lease, came.message)
            .scope(came.scope)
            .attempt(came.attempt)
            .published_at(came.published_at);
        self.shared.lock().ledger.push(incoming, now);
    }

    fn take_settled(&self) -> Vec<Settled<Lease>> {
        self.shared.lock().ledger.take_settled(usize::MAX)
    }

    /// Tells the service what was settled. In an ordered window, what was nacked of a key comes again before
    /// anything else of it.
    fn tell(&mut self, settled: Vec<Settled<Lease>>) {
        let ordered = self.shared.lock().ledger.window().is_ordered();
        let now = Instant::now();
        for settled in settled {
            let lease = &settled.id;
            if let (Outcome::Nack { .. }, Some(scope), true) = (&settled.outcome, lease.ordered_in, ordered)
                && !(lease.is_last_attempt && settled.tried)
            {
                self.returning.nacked(scope, lease.place, lease.message_id.clone(), now);
            }
            self.settling.settle(settled, now);
        }
    }

    /// Whether one more message may be in hand. What is settled and unconfirmed counts, and what is held
    /// counts apart: what it is held for must be able to come.
    fn has_room(&self) -> bool {
        let state = self.shared.lock();
        let total = state.ledger.window().total();
        state.ledger.room() > self.settling.len() && self.returning.held() < total
    }

    /// Messages that were in hand for too long are not ours any more.
    fn look_at_leases(&mut self, now: Instant) {
        if now < self.leases_at {
            return;
        }
        self.leases_at = now + LEASES_EVERY;
        let max_lease = self.config.max_lease;
        let has_ended = |since: Instant| since + max_lease <= now;
        let some_have = self.shared.lock().ledger.in_hand().any(|in_hand| has_ended(in_hand.id.received));
        if some_have {
            tracing::warn!(
                topic = self.shared.topic(),
                ?max_lease,
                "messages were in hand for longer than their leases are extended: others get them"
            );
            self.shared.lose_where(&self.origin, |lease| has_ended(lease.received));
        }
    }

    fn give_up(&mut self, now: Instant) {
        let free = self.returning.give_up(now);
        if !free.is_empty() {
            free.into_iter().for_each(|(place, came)| self.push(place, came, now));
            self.shared.wake_stream();
        }
    }

    fn until(&self, now: Instant) -> Instant {
        let in_hand = !self.shared.lock().ledger.is_empty();
        let times = [in_hand.then_some(self.leases_at), self.returning.deadline(), self.probe.due()];
        times.into_iter().flatten().min().unwrap_or(now + Duration::from_secs(60))
    }

    fn open(&mut self) -> Intake {
        // Those that have ended are not waited for any more.
        self.streams.retain(|stream| stream.shutdown().now_or_never().is_none());
        let total = self.shared.lock().ledger.window().total();
        let stream = self
            .client
            .subscribe(self.config.access.subscription(&self.name))
            .set_max_lease(self.config.max_lease)
            .set_max_lease_extension(self.config.lease)
            .set_max_outstanding_messages(i64::try_from(total).unwrap_or(i64::MAX))
            .set_max_outstanding_bytes(i64::from(self.config.outstanding_bytes))
            .build();
        self.streams.push(stream.shutdown_token());
        Intake::open(stream)
    }

    /// The stream has ended for a reason that does not pass by itself, as far as the client knows.
    fn on_failure(&mut self, mut failure: Failure) {
        if failure.trouble() == Trouble::Topic && self.config.create_subscriptions.is_some() {
            failure = failure.with_trouble(Trouble::Unavailable).explained("the subscription is gone");
        }
        let wait = self.config.retry.delay(self.failures);
        self.failures = self.failures.saturating_add(1);
        tracing::warn!(
            topic = self.shared.topic(),
            subscription = self.name,
            error = failure.text(),
            ?wait,
            "the stream has ended, it is opened again"
        );
        self.shared.lock().degraded(failure.text());
        self.shared.report(failure.subscribing(self.shared.topic()));
        self.intake = Intake::Waiting(Instant::now() + wait);
    }

    fn on_probed(&mut self, found: Result<(), Failure>) {
        let now = Instant::now();
        match found {
            Ok(()) => {
                if self.probe.worked(now) {
                    // The client may be in the middle of a long wait.
                    self.shared.lock().recovered();
                    while let Some((native, handler)) = self.intake.ready() {
                        self.take_in(native, handler, now);
                    }
                    self.shared.wake_stream();
                    self.intake = Intake::Off;
                }
            }
            Err(failure) => {
                self.probe.failed(now);
                self.shared.lock().degraded(failure.text());
            }
        }
    }
}

/// A future that is there or not: one that is not is never ready.
async fn if_there<F: Future + Unpin>(future: Option<&mut F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}
