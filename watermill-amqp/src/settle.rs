//! [`AmqpTransport`]: how deliveries become ours, and how outcomes become acks and rejections.

use std::{
    mem,
    sync::{Arc, Mutex as BlockingMutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::FutureExt as _;
use lapin::{
    Channel,
    options::{BasicAckOptions, BasicNackOptions, BasicQosOptions, BasicRejectOptions},
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
    connection::{Connection, close_channel},
    consuming::Consuming,
    delays::Delays,
    error::{Fault, classify, within},
    tags::{Acks, Tags},
};

/// Names a delivery: tags count anew on each channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tag {
    pub(crate) channel: u64,
    pub(crate) tag: u64,
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
    pub(crate) current: Arc<BlockingMutex<Current>>,
}

/// The channel that deliveries come on, if there is one.
#[derive(Default)]
pub(crate) struct Current {
    /// How many there have been.
    pub(crate) number: u64,
    pub(crate) channel: Option<Channel>,
    pub(crate) tags: Tags,
    pub(crate) prefetch: u16,
    /// Deliveries that are no messages, which stay with us, unacked.
    pub(crate) held: usize,
}

impl AmqpTransport {
    /// Nothing that came on this channel is ours any more.
    pub(crate) fn lose(&self, number: u64) {
        let mut current = self.current();
        if current.number == number {
            current.channel = None;
        }
        drop(current);
        self.shared.lose_where(&self.origin, |tag| tag.channel == number);
    }

    /// Waits until the server has seen everything that it was told on a channel: it answers in order.
    async fn synchronise(&self, channel: &Channel) -> Result<(), Fault> {
        let prefetch = self.current().prefetch;
        let seen = channel.basic_qos(prefetch, BasicQosOptions { global: false });
        within(self.config.server.timeout, "take note of outcomes", seen).await
    }

    /// Keeps one more delivery unacked until the channel ends: to give it back would bring it again at once. The prefetch
    /// grows by it, as far as it can.
    pub(crate) fn hold(&self) {
        let mut current = self.current();
        current.held += 1;
        let (held, prefetch) = (current.held, current.prefetch);
        drop(current);
        let why = format!(
            "{held} of {prefetch} places are taken by what is no message; dead letters would take it"
        );
        self.shared.lock().impaired_by = Some(why);
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
                Some(delay) if failed.is_none() => delays.wait(&self.queue(), &settled, delay).await,
                Some(_) => {
                    kept.push(settled);
                    continue;
                }
                None => Ok(()),
            };
            match copied {
                Ok(()) => done.push(settled),
                Err(failure) if failure.trouble() == Trouble::Message => {
                    self.give_back_later(settled, &failure);
                }
                Err(failure) => {
                    failed = Some(failure);
                    kept.push(settled);
                }
            }
        }
        (done, failed)
    }

    /// What is too large to wait at the server waits here, unacked, and goes back to its queue.
    fn give_back_later(&self, settled: Settled<Tag>, why: &Failure) {
        let (topic, message, reason) = (self.shared.topic(), settled.message.id().as_str(), why.text());
        tracing::warn!(topic, message, reason, "a nacked message cannot wait at the server, and waits here");
        let (Tag { channel: number, tag }, delay) = (settled.id, delay_of(&settled).unwrap_or_default());
        settled.recorded();
        let Some((_, channel)) = self.channel().filter(|(current, _)| *current == number) else { return };
        let (current, closing) = (self.current.clone(), self.shared.closing().clone());
        tokio::spawn(async move {
            // At its end the channel gives back everything.
            if closing.run_until_cancelled(sleep(delay)).await.is_none() {
                return;
            }
            let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
            if current.number == number {
                current.tags.settled(tag);
                told(channel.basic_nack(tag, BasicNackOptions { multiple: false, requeue: true }));
            }
        });
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

    pub(crate) fn has_dead_letters(&self) -> bool {
        self.config.topology.dead_letters_of(self.shared.topic(), self.config.group.as_deref()).is_some()
    }

    pub(crate) fn queue(&self) -> Queue {
        self.config.topology.queue_for(self.shared.topic(), self.config.group.as_deref())
    }

    pub(crate) fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The channel, if there is one: its number, and itself.
    pub(crate) fn channel(&self) -> Option<(u64, Channel)> {
        let current = self.current();
        Some((current.number, current.channel.clone()?))
    }

    /// Ends a channel, with which what is unsettled on it goes back to its places.
    pub(crate) async fn end(&self, channel: &Channel) {
        if let Err(fault) = close_channel(channel, self.config.server.timeout).await {
            let (topic, reason) = (self.shared.topic(), classify(fault).text());
            tracing::debug!(topic, reason, "a channel was not closed in good order");
        }
    }
}

#[async_trait]
impl Transport for AmqpTransport {
    type Id = Tag;

    async fn fetch(&self, room: usize, closing: &CancellationToken) -> Result<Vec<Incoming<Tag>>, Failure> {
        self.read(room, closing).await
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

/// How long a message is to wait that somebody has handled and nacked.
fn delay_of(settled: &Settled<Tag>) -> Option<Duration> {
    match settled.outcome {
        Outcome::Nack { delay } if settled.tried && !delay.is_zero() => Some(delay),
        _ => None,
    }
}

/// Hands a word to the client, which sends it; whether the server has heard it, the next answer tells.
pub(crate) fn told(word: impl Future<Output = lapin::Result<()>>) {
    drop(word.now_or_never());
}
