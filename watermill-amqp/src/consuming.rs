//! How deliveries become ours: [`Consuming`], the consumers of a subscription's channel.

use std::{
    collections::VecDeque,
    time::{Duration, UNIX_EPOCH},
};

use futures::{FutureExt as _, StreamExt as _};
use lapin::{
    Channel, Consumer, message,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions},
    types::{FieldTable, ShortString},
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use watermill_core::{
    backend::{Failure, Incoming, Trouble},
    error::BoxError,
};

use crate::{
    connection::Open,
    declare,
    error::{Fault, classify, within},
    marshaler,
    settle::{AmqpTransport, Current, Tag, told},
};

/// How long a fetch waits before it looks whether the window has changed.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// By how much the prefetch grows for what is held.
const HELD_STEP: usize = 64;
/// What a consumer is sent ahead at least whose prefetch cannot grow. That takes another consumer, and a moment without
/// any: in which another one would become the single active one, and a queue that goes with its last consumer would go.
const FIXED_PREFETCH: u16 = 256;

/// The consumers of a channel: the last one, and those before it that have something left.
pub(crate) struct Consuming {
    number: u64,
    channel: Channel,
    prefetch: u16,
    /// Whether the prefetch grows with the window.
    widens: bool,
    queue: ShortString,
    consumers: VecDeque<Consumer>,
}

impl AmqpTransport {
    /// What has come, as much as there is room for; waits for a while until there is something.
    pub(crate) async fn read(
        &self,
        room: usize,
        closing: &CancellationToken,
    ) -> Result<Vec<Incoming<Tag>>, Failure> {
        let mut consuming = self.consuming.lock().await;
        let current = self.channel().map(|(number, _)| number);
        let consuming = match &mut *consuming {
            Some(consuming) if Some(consuming.number) == current => consuming,
            outdated => {
                // What it has goes back before another consumer begins, which would overtake it.
                if let Some(outdated) = outdated.take() {
                    self.end(&outdated.channel).await;
                }
                outdated.insert(self.consume().await?)
            }
        };
        let number = consuming.number;
        let fetched = async {
            let prefetch = self.prefetch(consuming.widens);
            if consuming.widens && prefetch > consuming.prefetch {
                self.widen(consuming, prefetch).await?;
            }
            let mut found = Vec::new();
            let mut next = self.next(consuming, closing).await?;
            while let Some(delivery) = next.take() {
                found.extend(self.incoming(number, delivery));
                if found.len() < room {
                    next = consuming.here()?;
                }
            }
            Ok::<_, Fault>(found)
        };
        fetched.await.map_err(|fault| {
            self.lose(number);
            classify(fault)
        })
    }

    /// As many as the window lets out, some ahead, and those that are held.
    fn prefetch(&self, widens: bool) -> u16 {
        // By few steps: each takes another consumer.
        let held = self.current().held.next_multiple_of(HELD_STEP);
        let window = self.shared.lock().ledger.window().total();
        let total = window.saturating_add(self.config.fetch_ahead).saturating_add(held);
        let prefetch = u16::try_from(total).unwrap_or(u16::MAX);
        if widens { prefetch } else { prefetch.max(FIXED_PREFETCH) }
    }

    /// A consumer on a channel of its own, with the queue made.
    async fn consume(&self) -> Result<Consuming, Failure> {
        let widens = !self.config.topology.is_single_active && !self.queue().auto_delete;
        let prefetch = self.prefetch(widens);
        let consumed = self.connection.call(async |open| self.open(&open, prefetch).await);
        let (channel, queue, consumer) = consumed.await?;
        let mut current = self.current();
        let number = current.number + 1;
        *current = Current { number, channel: Some(channel.clone()), prefetch, ..Current::default() };
        drop(current);
        self.shared.lock().impaired_by = None;
        Ok(Consuming { number, channel, prefetch, widens, queue, consumers: VecDeque::from([consumer]) })
    }

    async fn open(&self, open: &Open, prefetch: u16) -> Result<(Channel, ShortString, Consumer), Fault> {
        let channel = open.channel().await?;
        let (topic, group) = (self.shared.topic(), self.config.group.as_deref());
        let consumed = async {
            let queue = declare::subscription(&channel, &self.config.topology, topic, group).await?;
            let consumer = consumer(&channel, queue.clone(), prefetch).await?;
            Ok::<_, Fault>((channel.clone(), queue, consumer))
        };
        within(self.config.server.timeout, "begin a subscription", consumed).await
    }

    /// Widens the prefetch, where the window has grown: with another consumer on the same channel, because that of a
    /// consumer cannot be changed. What the one before has been sent stays ours, and comes first.
    async fn widen(&self, consuming: &mut Consuming, prefetch: u16) -> Result<(), Fault> {
        let Some(last) = consuming.consumers.back() else { return Ok(()) };
        let (tag, channel) = (last.tag(), &consuming.channel);
        // First, for whoever synchronises meanwhile sets it too.
        self.current().prefetch = prefetch;
        let another = async {
            channel.basic_cancel(tag, BasicCancelOptions::default()).await?;
            consumer(channel, consuming.queue.clone(), prefetch).await
        };
        let another = within(self.config.server.timeout, "widen the prefetch", another).await?;
        consuming.consumers.push_back(another);
        consuming.prefetch = prefetch;
        Ok(())
    }

    /// The next delivery, if there is one within a while.
    async fn next(
        &self,
        consuming: &mut Consuming,
        closing: &CancellationToken,
    ) -> Result<Option<message::Delivery>, Fault> {
        loop {
            let next = tokio::select! {
                biased;
                () = closing.cancelled() => return Ok(None),
                next = consuming.first()?.next() => next,
                () = sleep(LOOK_INTERVAL) => return Ok(None),
            };
            if let Some(delivery) = consuming.heard(next)? {
                return Ok(Some(delivery));
            }
        }
    }

    fn incoming(&self, number: u64, delivery: message::Delivery) -> Option<Incoming<Tag>> {
        let message::Delivery { delivery_tag, redelivered, properties, data, .. } = delivery;
        let tag = Tag { channel: number, tag: delivery_tag };
        self.current().tags.came(delivery_tag);
        let message = match marshaler::read(&properties, data) {
            Ok(message) => message,
            Err(error) => {
                self.undecodable(tag, error);
                return None;
            }
        };
        let before = marshaler::delivered_before(&properties);
        let published_at =
            properties.timestamp().and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
        let incoming =
            Incoming::new(tag, message).attempt(before.saturating_add(1)).published_at(published_at);
        Some(incoming.redelivered(redelivered || before > 0))
    }

    /// What is no message goes to the dead letters, or stays with us until the channel ends: to give it back would
    /// bring it again at once.
    fn undecodable(&self, tag: Tag, error: BoxError) {
        let mut current = self.current();
        let Some(channel) = current.channel.clone() else { return };
        if self.has_dead_letters() {
            current.tags.settled(tag.tag);
            drop(current);
            told(channel.basic_reject(tag.tag, BasicRejectOptions { requeue: false }));
            let fate =
                format!("delivery {} is no message; it goes to the dead letters, others go on", tag.tag);
            return self.shared.report_undecodable(fate, error);
        }
        drop(current);
        self.hold();
        let fate = format!(
            "delivery {} is no message; it stays unacked and comes again with the next channel",
            tag.tag
        );
        self.shared.report_undecodable(fate, error);
    }
}

impl Consuming {
    fn first(&mut self) -> Result<&mut Consumer, Fault> {
        self.consumers.front_mut().ok_or_else(gone)
    }

    /// The next delivery, if it is here.
    fn here(&mut self) -> Result<Option<message::Delivery>, Fault> {
        loop {
            let Some(next) = self.first()?.next().now_or_never() else { return Ok(None) };
            if let Some(delivery) = self.heard(next)? {
                return Ok(Some(delivery));
            }
        }
    }

    /// Goes by what the first consumer has said. Its end and its error it says once, and would be waited for in vain
    /// afterwards.
    fn heard(
        &mut self,
        next: Option<lapin::Result<message::Delivery>>,
    ) -> Result<Option<message::Delivery>, Fault> {
        match next {
            Some(delivery) => Ok(Some(delivery?)),
            None if self.consumers.len() > 1 => {
                self.consumers.pop_front();
                Ok(None)
            }
            None => Err(gone()),
        }
    }
}

fn gone() -> Fault {
    let why = "the server has ended the subscription: the queue is gone";
    Fault::Found(Trouble::Mismatch, why.to_owned())
}

async fn consumer(channel: &Channel, queue: ShortString, prefetch: u16) -> Result<Consumer, Fault> {
    channel.basic_qos(prefetch, BasicQosOptions { global: false }).await?;
    let options = BasicConsumeOptions::default();
    Ok(channel.basic_consume(queue, "".into(), options, FieldTable::default()).await?)
}
