//! Taking messages from the source: ahead, while a transaction is on its way.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use watermill_core::{Delivery, error::chain};

use super::{
    batch::{BYTES_MAX, Batch, Pending},
    engine::Engine,
    journal::Place,
};
use crate::{
    OnUnreadable,
    end::End,
    relay::{item::Item, source::Source},
};

/// What was taken from the source, and is to be published next.
#[derive(Default)]
pub(super) struct Ahead {
    pub(super) batch: Batch,
    /// How many bytes the messages have that are in the batch.
    bytes: usize,
    pub(super) unreadable: Vec<Item>,
    /// Behind it, what is no envelope and goes back after a while. Nothing is taken before that.
    pub(super) back: Option<(Item, Duration)>,
}

impl Ahead {
    pub(super) fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.unreadable.is_empty() && self.back.is_none()
    }

    /// Whether there is nothing but messages that are to be published.
    pub(super) fn is_ordinary(&self) -> bool {
        self.unreadable.is_empty() && self.back.is_none()
    }

    fn len(&self) -> usize {
        self.batch.len() + self.unreadable.len()
    }
}

impl Engine<'_> {
    /// Whether one message more may be taken.
    pub(super) fn has_room(&self) -> bool {
        let (config, ahead) = (&self.forwarder.config, &self.ahead);
        let is_short = ahead.bytes < BYTES_MAX && ahead.len() < config.transaction_size();
        (is_short || ahead.len() < config.batch_size)
            && ahead.back.is_none()
            && self.unsuitable.is_none()
            // What is published and not recorded is what a checkpoint holds: it is bounded too. The source records one transaction
            // while the next is committed.
            && self.unrecorded < config.transaction_size().saturating_mul(2)
            && self.waiting.len() + self.trying_again < config.max_blocked
    }

    /// Takes what is ready, or comes while it lingers, until there is a batch: more is taken while that is on its way.
    pub(super) async fn gather(&mut self, source: &mut Source) {
        let config = &self.forwarder.config;
        let until = Instant::now() + config.linger;
        while self.has_room() && self.ahead.len() < config.batch_size {
            let next = match source.ready().await {
                None if !config.linger.is_zero() => timeout_at(until, source.next()).await.unwrap_or(None),
                ready => ready,
            };
            let Some(delivery) = next else { break };
            self.take(delivery);
        }
    }

    /// Takes a message, and with it what else is ready, as long as that keeps nobody waiting who is looked at in turn with it.
    pub(super) async fn take_ready(&mut self, first: Delivery, source: &mut Source) {
        const AT_ONCE: usize = 200;
        self.take(first);
        for _ in 1..AT_ONCE {
            if !self.has_room() {
                break;
            }
            let Some(delivery) = source.ready().await else { break };
            self.take(delivery);
        }
    }

    pub(super) fn take(&mut self, delivery: Delivery) {
        let config = &self.forwarder.config;
        let attempt = delivery.info().attempt();
        let Some(place) = Place::of(&delivery) else {
            let why = "the source has no offsets, by which its messages are known again";
            self.unsuitable = Some(End::Unsuitable(why.to_owned()));
            return;
        };
        let (destination, item) = Item::new(delivery, config);
        let mut pending = Pending::new(item, place, destination);
        if let Err(error) = &pending.item.inner {
            let (topic, id, handling) = (&*config.topic, pending.item.outer.id(), config.on_unreadable);
            tracing::error!(topic, %id, error = %chain(error), ?handling, "not an envelope");
            match handling {
                OnUnreadable::DeadLetter if self.forwarder.dead_letters.have_a_place() => {
                    return self.ahead.unreadable.push(pending.item);
                }
                OnUnreadable::DeadLetter => pending.give_up(&self.forwarder.handler, None),
                OnUnreadable::Ack => {
                    pending.item.ack();
                    self.report.dropped += 1;
                    return;
                }
                OnUnreadable::Nack => {
                    let delay = config.backoff.delay(attempt.saturating_sub(1));
                    self.ahead.back = Some((pending.item, delay));
                    return;
                }
            }
        }
        self.ahead.bytes += pending.bytes;
        self.ahead.batch.push(pending);
    }
}
