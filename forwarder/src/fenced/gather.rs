//! Taking messages from the source, as many as a commit may have.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use watermill_core::{Delivery, error::chain};

use super::{
    batch::{Batch, Pending},
    engine::Engine,
    journal::Place,
};
use crate::{
    OnUnreadable,
    end::End,
    relay::{item::Item, source::Source},
};

/// What was taken from the source.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) batch: Batch,
    pub(super) unreadable: Vec<Item>,
    /// Behind it, what is no envelope and goes back after a while.
    pub(super) back: Option<(Item, Duration)>,
}

impl Engine<'_> {
    /// Takes what is ready behind `first`, or comes while it lingers.
    pub(super) async fn gather(&mut self, first: Delivery, source: &mut Source) -> Result<Gathered, End> {
        let config = &self.forwarder.config;
        let until = Instant::now() + config.linger;
        let mut gathered = Gathered::default();
        let mut next = Some(first);
        while let Some(delivery) = next {
            let attempt = delivery.info().attempt();
            let place = Place::of(&delivery).ok_or_else(|| {
                End::Unsuitable("the source has no offsets, by which its messages are known again".to_owned())
            })?;
            let (destination, item) = Item::new(delivery, config.key_from.as_ref());
            let mut pending = Pending::new(item, place, destination);
            if let Err(error) = &pending.item.inner {
                let (topic, id, handling) = (&*config.topic, pending.item.outer.id(), config.on_unreadable);
                tracing::error!(topic, %id, error = %chain(error), ?handling, "not an envelope");
                match handling {
                    OnUnreadable::DeadLetter if self.forwarder.dead_letters.have_a_place() => {
                        gathered.unreadable.push(pending.item);
                        next = source.ready().await;
                        continue;
                    }
                    OnUnreadable::DeadLetter => pending.give_up(&self.forwarder.handler, None),
                    OnUnreadable::Ack => {
                        pending.item.ack();
                        self.report.dropped += 1;
                        next = source.ready().await;
                        continue;
                    }
                    OnUnreadable::Nack => {
                        let delay = config.backoff.delay(attempt.saturating_sub(1));
                        gathered.back = Some((pending.item, delay));
                        return Ok(gathered);
                    }
                }
            }
            if let Some(pending) = self.waiting.keep(pending) {
                gathered.batch.push(pending);
            }
            if gathered.batch.len() >= config.batch_size {
                break;
            }
            next = match source.ready().await {
                None if !config.linger.is_zero() => timeout_at(until, source.next()).await.unwrap_or(None),
                ready => ready,
            };
        }
        Ok(gathered)
    }
}
