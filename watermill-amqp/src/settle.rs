//! [`AmqpTransport`]: how deliveries become ours, and how outcomes become acks and rejections.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex as BlockingMutex, MutexGuard, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use async_trait::async_trait;
use futures::{FutureExt as _, StreamExt as _};
use lapin::{
    Channel, Consumer, message,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
        BasicRejectOptions,
    },
    types::{FieldTable, ShortString},
};
use tokio::{sync::Mutex, time::sleep};
use tokio_util::sync::CancellationToken;
use watermill_core::{
    backend::{ById, Failure, Incoming, Settled, Shared, Transport, Trouble},
    delivery::{Origin, Outcome},
    error::SettleError,
};

use crate::{
    AmqpSubscriberConfig, Queue,
    connection::{Connection, Open, close_channel},
    declare,
    delays::Delays,
    error::{Fault, classify, within},
    marshaler,
    tags::{Acks, Tags},
};

/// How long a fetch waits before it looks whether the window has changed.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// What a consumer is sent ahead at least whose prefetch cannot grow. That takes another consumer, and a moment without
/// any: in which another one would become the single active one, and a queue that goes with its last consumer would go.
const FIXED_PREFETCH: u16 = 256;

/// Names a delivery: tags count anew on each channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tag {
    channel: u64,
    tag: u64,
}

/// What a subscription has in hand.
pub(crate) type State = Shared<ById<Tag>>;

/// A queue, as one consumer works on it.
pub(crate) struct AmqpTransport {
    pub(crate) config: AmqpSubscriberConfig,
    pub(crate) connection: Arc<Connection>,
    pub(crate) delays: Option<Delays>,
    pub(crate) shared: Arc<State>,
    pub(crate) origin: Origin,
    /// What a fetch reads from.
    pub(crate) consuming: Mutex<Option<Consuming>>,
    pub(crate) current: BlockingMutex<Current>,
}

/// The channel that deliveries come on, if there is one.
#[derive(Default)]
pub(crate) struct Current {
    /// How many there have been.
    number: u64,
    channel: Option<Channel>,
    tags: Tags,
    prefetch: u16,
    /// Deliveries that are no messages, which stay with us.
    undecodable: usize,
}

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
    /// As many as the window lets out, and some ahead.
    fn prefetch(&self, widens: bool) -> u16 {
        let total = self.shared.lock().ledger.window().total().saturating_add(self.config.fetch_ahead);
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

    /// Nothing that came on this channel is ours any more.
    fn lose(&self, number: u64) {
        let mut current = self.current();
        if current.number == number {
            current.channel = None;
        }
        drop(current);
        self.shared.lose_where(&self.origin, |tag| tag.channel == number);
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
    fn undecodable(&self, tag: Tag, error: watermill_core::error::BoxError) {
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
        current.undecodable += 1;
        let (held, prefetch) = (current.undecodable, current.prefetch);
        drop(current);
        let why = format!(
            "{held} of {prefetch} places are taken by what is no message; dead letters would take it"
        );
        self.shared.lock().impaired_by = Some(why);
        let fate = format!(
            "delivery {} is no message; it stays unacked and comes again with the next channel",
            tag.tag
        );
        self.shared.report_undecodable(fate, error);
    }

    /// Waits until the server has seen everything that it was told on a channel: it answers in order.
    async fn synchronise(&self, channel: &Channel) -> Result<(), Fault> {
        let prefetch = self.current().prefetch;
        let seen = channel.basic_qos(prefetch, BasicQosOptions { global: false });
        within(self.config.server.timeout, "take note of outcomes", seen).await
    }

    /// Has copies wait of what is nacked with a delay, where the server waits for that. Those that could not be copied
    /// are left in `kept`.
    async fn copy_delayed(
        &self,
        ours: Vec<Settled<Tag>>,
        kept: &mut Vec<Settled<Tag>>,
    ) -> (Vec<Settled<Tag>>, Option<Failure>) {
        let Some(delays) = &self.delays else { return (ours, None) };
        let (mut done, mut failed) = (Vec::with_capacity(ours.len()), None);
        for settled in ours {
            let copied = match delay_of(&settled) {
                Some(delay) if failed.is_none() => delays.wait(&self.queue().name, &settled, delay).await,
                Some(_) => {
                    kept.push(settled);
                    continue;
                }
                None => Ok(()),
            };
            match copied {
                Ok(()) => done.push(settled),
                Err(failure) => {
                    failed = Some(failure);
                    kept.push(settled);
                }
            }
        }
        (done, failed)
    }

    /// Tells the server what became of deliveries, in few words. Nothing is awaited.
    fn tell(&self, channel: &Channel, ours: &[Settled<Tag>]) {
        let reject = |tag| told(channel.basic_reject(tag, BasicRejectOptions { requeue: false }));
        let mut acked = Vec::new();
        for settled in ours {
            let tag = settled.id.tag;
            match &settled.outcome {
                Outcome::Ack => acked.push(tag),
                Outcome::Reject { reason } if self.has_dead_letters() => {
                    let (topic, message) = (self.shared.topic(), settled.message.id().as_str());
                    tracing::warn!(
                        topic,
                        message,
                        reason,
                        "a message was rejected and goes to the dead letters"
                    );
                    self.settle(tag, || reject(tag));
                }
                Outcome::Reject { .. } => {
                    settled.log_if_dropped(self.shared.topic());
                    self.settle(tag, || reject(tag));
                }
                // Its copy waits.
                Outcome::Nack { .. } if self.delays.is_some() && delay_of(settled).is_some() => {
                    acked.push(tag)
                }
                Outcome::Nack { .. } if self.delays.is_some() && !self.shared.closing().is_cancelled() => {
                    let options = BasicNackOptions { multiple: false, requeue: true };
                    self.settle(tag, || told(channel.basic_nack(tag, options)));
                }
                // It is kept here while the subscription goes on; at its end the channel's end gives all back at once,
                // in their places. One by one they would come to us again.
                _ => {}
            }
        }
        let Acks { up_to, single } = self.current().tags.ack(acked);
        single.into_iter().for_each(|tag| told(channel.basic_ack(tag, BasicAckOptions { multiple: false })));
        if let Some(tag) = up_to {
            told(channel.basic_ack(tag, BasicAckOptions { multiple: true }));
        }
    }

    fn settle(&self, tag: u64, tell: impl FnOnce()) {
        self.current().tags.settled(tag);
        tell();
    }

    fn has_dead_letters(&self) -> bool {
        self.config.topology.dead_letters_of(self.shared.topic(), self.config.group.as_deref()).is_some()
    }

    fn queue(&self) -> Queue {
        self.config.topology.queue_for(self.shared.topic(), self.config.group.as_deref())
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The channel, if there is one: its number, and itself.
    fn channel(&self) -> Option<(u64, Channel)> {
        let current = self.current();
        Some((current.number, current.channel.clone()?))
    }

    /// Ends a channel, with which what is unsettled on it goes back to its places.
    async fn end(&self, channel: &Channel) {
        if let Err(fault) = close_channel(channel, self.config.server.timeout).await {
            let (topic, reason) = (self.shared.topic(), classify(fault).text());
            tracing::debug!(topic, reason, "a channel was not closed in good order");
        }
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

#[async_trait]
impl Transport for AmqpTransport {
    type Id = Tag;

    async fn fetch(&self, room: usize, closing: &CancellationToken) -> Result<Vec<Incoming<Tag>>, Failure> {
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

    async fn record(&self, settled: &mut Vec<Settled<Tag>>) -> Result<(), Failure> {
        let current = self.channel();
        let number = current.as_ref().map(|(number, _)| *number);
        let is_ours = |settled: &Settled<Tag>| Some(settled.id.channel) == number;
        let (ours, lost): (Vec<_>, Vec<_>) = mem::take(settled).into_iter().partition(is_ours);
        lost.into_iter().for_each(Settled::lost);
        let Some((number, channel)) = current.filter(|_| !ours.is_empty()) else { return Ok(()) };
        let (ours, failed) = self.copy_delayed(ours, settled).await;
        // Copying takes a while, in which the channel may have gone. Its tags are others' on the next one.
        if self.channel().is_none_or(|(current, _)| current != number) {
            ours.into_iter().for_each(Settled::lost);
            return failed.map_or(Ok(()), Err);
        }
        self.tell(&channel, &ours);
        if let Err(fault) = self.synchronise(&channel).await {
            // Told or not, nobody knows; a tag is not to be told twice, which would end the channel.
            ours.into_iter().for_each(|settled| settled.failed(SettleError::unknown()));
            self.lose(number);
            return Err(classify(fault));
        }
        ours.into_iter().for_each(Settled::recorded);
        failed.map_or(Ok(()), Err)
    }

    /// The server has no lease but its connection, and a connection of a process that was frozen is gone: so its word
    /// is asked for.
    async fn extend(&self, in_hand: Vec<Tag>) -> Result<Vec<Tag>, Failure> {
        let Some((number, channel)) = self.channel() else { return Ok(in_hand) };
        if let Err(fault) = self.synchronise(&channel).await {
            self.lose(number);
            return Err(classify(fault));
        }
        Ok(in_hand.into_iter().filter(|tag| tag.channel != number).collect())
    }

    async fn close(&self) {
        let Some((number, channel)) = self.channel() else { return };
        self.end(&channel).await;
        self.lose(number);
    }
}

async fn consumer(channel: &Channel, queue: ShortString, prefetch: u16) -> Result<Consumer, Fault> {
    channel.basic_qos(prefetch, BasicQosOptions { global: false }).await?;
    let options = BasicConsumeOptions::default();
    Ok(channel.basic_consume(queue, "".into(), options, FieldTable::default()).await?)
}

/// How long a message is to wait that somebody has handled and nacked.
fn delay_of(settled: &Settled<Tag>) -> Option<Duration> {
    match settled.outcome {
        Outcome::Nack { delay } if settled.tried && !delay.is_zero() => Some(delay),
        _ => None,
    }
}

/// Hands a word to the client, which sends it; whether the server has heard it, the next answer tells.
fn told(word: impl Future<Output = lapin::Result<()>>) {
    drop(word.now_or_never());
}
