//! The engine: takes batches, publishes by destination, acks, and takes the next batch meanwhile.
//!
//! One task runs all of it, so that dropping one future ends all of it. What is in hand is kept in
//! lanes, one for each destination, each with at most one call in progress: order is kept by
//! construction, and a destination that is slow or fails keeps nobody waiting but itself.

mod call;
pub(crate) mod item;
mod lane;
mod lanes;
pub(crate) mod source;

use std::{
    future::Future,
    pin::{Pin, pin},
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use watermill_core::{
    Delivery,
    error::{PublishError, chain},
};

use self::{
    call::{Attempt, Verdict, call},
    item::Item,
    lanes::Lanes,
    source::Source,
};
use crate::{Forwarder, ForwarderError, ForwarderReport, OnUnreadable, end::End};

/// Runs a forwarder from subscribing to the closing of the subscription.
pub(crate) async fn run(
    forwarder: &Forwarder,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<ForwarderReport, ForwarderError> {
    let mut shutdown = pin!(shutdown);
    let topic = &*forwarder.config.topic;
    let window = forwarder.config.window();
    let opened = Source::open(&*forwarder.subscriber, topic, window, shutdown.as_mut()).await?;
    let Some(mut source) = opened else { return Ok(ForwarderReport::default()) };

    let stopping = CancellationToken::new();
    let mut relay = Relay::new(forwarder, &stopping);
    let end = relay.flow(&mut source, shutdown).await;
    source.stop_intake();
    stopping.cancel();
    let end = match end {
        End::PublisherClosed(_) => end,
        _ => relay.drain().await.map_or(end, End::PublisherClosed),
    };
    let report = relay.give_back();
    end.into_result(topic, source.close().await, report)
}

/// Something that was going on has come to its end.
enum Event {
    Call(Attempt),
    /// A message that is no envelope was held for its time and goes back to the source.
    Release(Box<Item>),
}

struct Relay<'a> {
    forwarder: &'a Forwarder,
    stopping: &'a CancellationToken,
    lanes: Lanes,
    /// Messages that are no envelopes and are held before they are nacked.
    held: usize,
    going_on: FuturesUnordered<BoxFuture<'a, Event>>,
    /// When the batch that is being gathered is published at the latest.
    gather_until: Option<Instant>,
    report: ForwarderReport,
}

impl<'a> Relay<'a> {
    fn new(forwarder: &'a Forwarder, stopping: &'a CancellationToken) -> Self {
        Self {
            forwarder,
            stopping,
            lanes: Lanes::new(forwarder.config.batch_size),
            held: 0,
            going_on: FuturesUnordered::new(),
            gather_until: None,
            report: ForwarderReport::default(),
        }
    }

    /// Takes and forwards until something ends it.
    async fn flow(&mut self, source: &mut Source, mut shutdown: Pin<&mut impl Future<Output = ()>>) -> End {
        loop {
            self.begin_calls();
            let room = self.room();
            tokio::select! {
                biased;
                () = &mut shutdown => return End::Shutdown,
                Some(event) = self.going_on.next() => {
                    if let Some(error) = self.finish(event) {
                        return End::PublisherClosed(error);
                    }
                }
                next = source.next(), if room > 0 => match next {
                    Some(delivery) => self.gather(delivery, source, room).await,
                    None => return End::Subscription(source.take_last_error()),
                },
                () = until(self.gather_until) => self.gather_until = None,
            }
        }
    }

    /// How many more messages may be taken now.
    fn room(&self) -> usize {
        let config = &self.forwarder.config;
        let (flowing, blocked) = self.lanes.count();
        if blocked + self.held >= config.max_blocked {
            return 0;
        }
        config.max_flowing().saturating_sub(flowing).min(config.batch_size)
    }

    /// Takes a message, and with it what else is ready.
    async fn gather(&mut self, first: Delivery, source: &mut Source, room: usize) {
        self.take(first);
        for _ in 1..room {
            let Some(delivery) = source.ready().await else { break };
            self.take(delivery);
        }
        let config = &self.forwarder.config;
        let (flowing, _) = self.lanes.count();
        if flowing >= config.batch_size {
            self.gather_until = None;
        } else if !config.linger.is_zero() && self.gather_until.is_none() {
            self.gather_until = Some(Instant::now() + config.linger);
        }
    }

    fn take(&mut self, delivery: Delivery) {
        let attempt = delivery.info().attempt();
        let (destination, item) = Item::new(delivery);
        let Err(error) = &item.inner else { return self.lanes.push(destination, item) };
        let (topic, id) = (&*self.forwarder.config.topic, item.outer.id());
        let handling = self.forwarder.config.on_unreadable;
        tracing::error!(topic, %id, error = %chain(error), ?handling, "not an envelope");
        match handling {
            OnUnreadable::DeadLetter => self.lanes.push(None, item),
            OnUnreadable::Ack => {
                item.ack();
                self.report.dropped += 1;
            }
            OnUnreadable::Nack => {
                // Held here and not by the source: not every source can wait.
                let delay = self.forwarder.config.backoff.delay(attempt.saturating_sub(1));
                let stopping = self.stopping;
                self.held += 1;
                self.going_on.push(
                    async move {
                        tokio::select! {
                            () = sleep(delay) => {}
                            () = stopping.cancelled() => {}
                        }
                        Event::Release(Box::new(item))
                    }
                    .boxed(),
                );
            }
        }
    }

    fn begin_calls(&mut self) {
        let stopping = self.stopping.is_cancelled();
        if self.gather_until.is_some() && !stopping {
            return;
        }
        for (lane, batch) in self.lanes.begin(stopping) {
            let call = call(self.forwarder, self.stopping, lane, batch);
            self.going_on.push(call.map(Event::Call).boxed());
        }
    }

    /// Takes note of how something ended; an error is the end of everything.
    fn finish(&mut self, event: Event) -> Option<PublishError> {
        let attempt = match event {
            Event::Call(attempt) => attempt,
            Event::Release(item) => {
                item.nack();
                self.held -= 1;
                self.report.returned += u64::from(self.stopping.is_cancelled());
                return None;
            }
        };
        let Attempt { lane: id, forwarded, dead_lettered, remaining, verdict } = attempt;
        self.report.count(id.destination.as_deref(), forwarded as u64, dead_lettered as u64);
        let lane = self.lanes.get(&id)?;
        lane.end();
        let is_unreadable = id.destination.is_none();
        if forwarded > 0 || (is_unreadable && dead_lettered > 0) {
            lane.succeeded();
        }
        match verdict {
            Verdict::Done => {}
            Verdict::GaveUp => lane.gave_up(),
            Verdict::Stopped => lane.put_back(remaining),
            Verdict::Narrow => {
                lane.narrow(remaining.len());
                lane.put_back(remaining);
            }
            Verdict::Retry => {
                let retry_at = Instant::now() + self.forwarder.config.backoff.delay(lane.failures());
                if forwarded > 0 {
                    self.lanes.set_aside(&id, remaining, retry_at);
                } else {
                    self.lanes.hold(&id, remaining, retry_at);
                }
            }
            Verdict::Closed(error) => {
                lane.put_back(remaining);
                return Some(error);
            }
        }
        self.lanes.tidy();
        None
    }

    /// Publishes what is in hand for destinations that work, within the time there is for it.
    async fn drain(&mut self) -> Option<PublishError> {
        let config = &self.forwarder.config;
        let drained = async {
            loop {
                self.begin_calls();
                let event = self.going_on.next().await?;
                if let Some(error) = self.finish(event) {
                    return Some(error);
                }
            }
        };
        let Ok(error) = timeout(config.drain_timeout, drained).await else {
            tracing::warn!(
                topic = config.topic, timeout = ?config.drain_timeout, "stopped before everything in hand was published",
            );
            return None;
        };
        error
    }

    /// Gives what is left back to the source.
    fn give_back(self) -> ForwarderReport {
        let Self { lanes, held, going_on, mut report, .. } = self;
        let (flowing, blocked) = lanes.count();
        report.returned += (flowing + blocked + held) as u64;
        drop(going_on);
        for item in lanes.into_items() {
            item.nack();
        }
        report
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
