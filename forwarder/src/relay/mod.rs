//! The engine: takes batches, publishes by destination, acks, and takes the next batch meanwhile.
//!
//! One task runs all of it, so that dropping one future ends all of it. What is in hand is kept in
//! lanes, one for each destination, each with at most one call in progress: order is kept by
//! construction, and a destination that is slow or fails keeps nobody waiting but itself.

mod call;
pub(crate) mod dead_letters;
mod failures;
pub(crate) mod item;
mod lane;
pub(crate) mod lanes;
mod ours;
pub(crate) mod source;
pub(crate) mod spans;

use std::{
    future::Future,
    pin::{Pin, pin},
};

use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use watermill_core::{Delivery, error::chain, router::Phase};

use self::{
    call::{Called, GivenUp, call, give_up},
    item::Item,
    lanes::Lanes,
    source::Source,
};
use crate::{
    Forwarder, ForwarderError, ForwarderReport, ForwarderStatus, OnUnreadable,
    call_size::CallSize,
    control::{Run, Snapshot},
    end::End,
    wait::until,
};

/// Runs a forwarder from subscribing to the closing of the subscription.
pub(crate) async fn run(
    forwarder: &Forwarder,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<ForwarderReport, ForwarderError> {
    let shared = &*forwarder.control.shared;
    let _run = Run::start(shared);
    let mut shutdown = pin!(shared.asked_to_stop(shutdown));
    let (config, window) = (&forwarder.config, |ordering| forwarder.config.window(ordering));
    let opened = Source::open(&*forwarder.subscriber, (config, shared), window, shutdown.as_mut()).await?;
    let Some(mut source) = opened else { return Ok(ForwarderReport::default()) };

    let stopping = CancellationToken::new();
    let mut relay = Relay::new(forwarder, &stopping, source.may_come_again_later());
    let end = relay.flow(&mut source, shutdown).await;
    let stop = forwarder.config.stop_deadlines();
    shared.enter(Phase::Draining);
    source.stop_intake();
    stopping.cancel();
    let end = match end {
        End::PublisherClosed(_) | End::Fenced(_) => end,
        _ => relay.drain(stop.drained).await.unwrap_or(end),
    };
    let report = relay.give_back();
    shared.update(Snapshot { counts: report.clone(), ..Snapshot::default() });
    end.into_result(&forwarder.config.topic, source.close(stop.closed).await, report)
}

/// Something that was going on has come to its end.
enum Event {
    Called(Called),
    GivenUp(GivenUp),
    /// The source has recorded acks, or cannot.
    Recorded(usize),
    /// A message that is no envelope was held for its time and goes back to the source.
    Release(Box<Item>),
}

struct Relay<'a> {
    forwarder: &'a Forwarder,
    stopping: &'a CancellationToken,
    lanes: Lanes,
    /// Whether a message that goes back to the source holds nothing up there.
    may_come_again_later: bool,
    /// Messages that are no envelopes and are held before they are nacked.
    held: usize,
    /// Messages that were accepted and of which the source has not recorded the acks: a crash repeats them.
    unrecorded: usize,
    going_on: FuturesUnordered<BoxFuture<'a, Event>>,
    /// When the batch that is being gathered is published at the latest.
    gather_until: Option<Instant>,
    report: ForwarderReport,
    /// When it says again how it is doing.
    status_at: Instant,
}

impl<'a> Relay<'a> {
    fn new(forwarder: &'a Forwarder, stopping: &'a CancellationToken, may_come_again_later: bool) -> Self {
        Self {
            forwarder,
            stopping,
            lanes: Lanes::new(CallSize::new(forwarder.config.batch_size, forwarder.config.call_timeout)),
            may_come_again_later,
            held: 0,
            unrecorded: 0,
            going_on: FuturesUnordered::new(),
            gather_until: None,
            report: ForwarderReport::default(),
            status_at: Instant::now(),
        }
    }

    /// Takes and forwards until something ends it.
    async fn flow(&mut self, source: &mut Source, mut shutdown: Pin<&mut impl Future<Output = ()>>) -> End {
        let shared = &*self.forwarder.control.shared;
        self.lanes.pause(&shared.pauses());
        // Whether anything has happened since it was last said how it is doing.
        let mut changed = true;
        loop {
            let now = Instant::now();
            self.warn_of_slow_calls(now);
            self.begin_calls(now);
            let room = self.room();
            let due = self.lanes.due(now);
            tokio::select! {
                biased;
                () = &mut shutdown => return End::Shutdown,
                () = sleep_until(self.status_at), if changed => {
                    self.say_status();
                    changed = false;
                    continue;
                }
                () = shared.pauses_changed() => self.lanes.pause(&shared.pauses()),
                Some(event) = self.going_on.next() => {
                    if let Some(end) = self.finish(event) {
                        return end;
                    }
                }
                next = source.next(), if room > 0 => match next {
                    Some(delivery) => self.gather(delivery, source, room).await,
                    None => return End::Subscription(source.take_last_error()),
                },
                () = until(self.gather_until) => self.gather_until = None,
                () = until(due) => {}
            }
            changed = true;
        }
    }

    fn say_status(&mut self) {
        self.status_at = Instant::now() + ForwarderStatus::INTERVAL;
        let in_hand = self.lanes.in_hand();
        self.forwarder.control.shared.update(Snapshot {
            counts: self.report.clone(),
            in_hand: in_hand.flowing + in_hand.blocked + self.held,
            unrecorded: self.unrecorded,
            held: self.lanes.held(),
        });
    }

    /// How many more messages may be taken now.
    fn room(&self) -> usize {
        let config = &self.forwarder.config;
        let in_hand = self.lanes.in_hand();
        if in_hand.blocked + self.held >= config.max_blocked {
            return 0;
        }
        config.max_flowing().saturating_sub(in_hand.flowing).min(config.batch_size)
    }

    /// Takes a message, and with it what else is ready.
    async fn gather(&mut self, first: Delivery, source: &mut Source, room: usize) {
        self.take(first);
        for _ in 1..room {
            let Some(delivery) = source.ready().await else { break };
            self.take(delivery);
        }
        let config = &self.forwarder.config;
        if self.lanes.in_hand().flowing >= config.batch_size {
            self.gather_until = None;
        } else if !config.linger.is_zero() && self.gather_until.is_none() {
            self.gather_until = Some(Instant::now() + config.linger);
        }
    }

    fn take(&mut self, delivery: Delivery) {
        let config = &self.forwarder.config;
        let attempt = delivery.info().attempt();
        let (destination, item) = Item::new(delivery, config);
        let wait = config.backoff.delay(attempt.saturating_sub(1));
        let Err(error) = &item.inner else {
            if self.may_come_again_later && self.has_its_share(destination.as_deref(), &item) {
                // The rest of what may be blocked is for others.
                return item.nack_after(wait);
            }
            return self.lanes.push(destination, item);
        };
        let (topic, id, handling) = (&*config.topic, item.outer.id(), config.on_unreadable);
        tracing::error!(topic, %id, error = %chain(error), ?handling, "not an envelope");
        match handling {
            OnUnreadable::DeadLetter => self.lanes.push(None, item),
            OnUnreadable::Ack => {
                item.ack();
                self.report.dropped += 1;
            }
            OnUnreadable::Nack => {
                // Held here and not by the source: not every source can wait.
                let stopping = self.stopping;
                self.held += 1;
                self.going_on.push(
                    async move {
                        tokio::select! {
                            () = sleep(wait) => {}
                            () = stopping.cancelled() => {}
                        }
                        Event::Release(Box::new(item))
                    }
                    .boxed(),
                );
            }
        }
    }

    /// Whether the destination of a message, or its key there, has its share of what may be blocked.
    fn has_its_share(&self, destination: Option<&str>, item: &Item) -> bool {
        let Some(destination) = destination else { return false };
        let (blocked, of_key) = self.lanes.blocked_of(destination, item.key());
        let config = &self.forwarder.config;
        blocked >= config.max_blocked_share() || of_key >= config.max_blocked_key_share()
    }

    fn begin_calls(&mut self, now: Instant) {
        let stopping = self.stopping.is_cancelled();
        if self.gather_until.is_some() && !stopping {
            return;
        }
        let at_risk = self.lanes.in_hand().in_call + self.unrecorded;
        let room = self.forwarder.config.max_flowing().saturating_sub(at_risk);
        for next in self.lanes.begin(now, room, stopping) {
            let forwarder = self.forwarder;
            self.going_on.push(match next.lane.destination.clone() {
                Some(destination) => call(forwarder, destination, next).map(Event::Called).boxed(),
                None => give_up(forwarder, next.lane, next.items, None).map(Event::GivenUp).boxed(),
            });
        }
    }

    fn warn_of_slow_calls(&mut self, now: Instant) {
        for (destination, messages) in self.lanes.become_slow(now) {
            tracing::warn!(
                topic = %self.forwarder.config.topic, destination = destination.as_deref(), messages,
                "no answer yet: its messages wait, and others go on",
            );
        }
    }

    /// Takes note of how something ended; returns the end of everything, if it is that.
    fn finish(&mut self, event: Event) -> Option<End> {
        let end = match event {
            Event::Called(called) => self.called(called),
            Event::GivenUp(given_up) => self.given_up(given_up),
            Event::Recorded(count) => {
                self.unrecorded -= count;
                None
            }
            Event::Release(item) => {
                item.nack();
                self.held -= 1;
                self.report.returned += u64::from(self.stopping.is_cancelled());
                None
            }
        };
        self.lanes.tidy();
        end
    }

    /// Acks what was accepted. Until the source has recorded that, it counts as being in hand.
    fn record(&mut self, accepted: Vec<Item>) {
        let count = accepted.len();
        self.unrecorded += count;
        let mut acks = join_all(accepted.into_iter().map(Item::ack_confirmed)).boxed();
        // Acks are sent when they are first looked at, and nothing is to come between.
        match (&mut acks).now_or_never() {
            Some(_) => self.unrecorded -= count,
            None => self.going_on.push(acks.map(move |_| Event::Recorded(count)).boxed()),
        }
    }

    /// Publishes what is in hand for destinations that work, until `deadline`.
    async fn drain(&mut self, deadline: Instant) -> Option<End> {
        let drained = async {
            loop {
                self.begin_calls(Instant::now());
                let event = self.going_on.next().await?;
                if let Some(end) = self.finish(event) {
                    return Some(end);
                }
            }
        };
        if let Ok(end) = timeout_at(deadline, drained).await {
            return end;
        }
        tracing::warn!(
            topic = %self.forwarder.config.topic, timeout = ?self.forwarder.config.drain_timeout,
            "stopped before everything in hand was published",
        );
        self.report.cut_short = true;
        None
    }

    /// Gives what is left back to the source.
    fn give_back(self) -> ForwarderReport {
        let Self { lanes, held, going_on, mut report, .. } = self;
        let in_hand = lanes.in_hand();
        report.returned += (in_hand.flowing + in_hand.blocked + held) as u64;
        drop(going_on);
        for item in lanes.into_items() {
            item.nack();
        }
        report
    }
}
