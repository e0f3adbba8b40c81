//! Publishing, with faults.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time;
use watermill_core::{
    Message, Publisher,
    error::{PublishError, PublishErrorKind},
    publisher::PublisherCapabilities,
};

use super::Faulty;

const INJECTED: &str = "an injected fault";

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<P: Publisher> Publisher for Faulty<P> {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        let fail = |kind| Err(PublishError::new(kind, topic).because(INJECTED));
        if self.dice.happens(|faults| faults.before_send, |injected| &mut injected.failed_before_send) {
            return fail(PublishErrorKind::Unavailable);
        }
        if messages.len() > 1 && self.dice.happens(|faults| faults.partial, |injected| &mut injected.partial)
        {
            let (sent, not_accepted) = self.split(messages);
            self.inner.publish(topic, sent).await?;
            let error = PublishError::new(PublishErrorKind::Unavailable, topic).because(INJECTED);
            return Err(error.with_not_accepted(not_accepted));
        }
        self.inner.publish(topic, messages).await?;
        // The answer is late, and not the sending: order is kept.
        if self.dice.happens(|faults| faults.delay, |injected| &mut injected.delayed) {
            time::sleep(self.some_delay()).await;
        }
        if self.dice.happens(|faults| faults.after_send, |injected| &mut injected.failed_after_send) {
            return fail(PublishErrorKind::Timeout);
        }
        Ok(())
    }

    async fn close(&self) -> Result<(), PublishError> {
        self.inner.close().await
    }

    fn capabilities(&self) -> PublisherCapabilities {
        let capabilities = self.inner.capabilities();
        let partial = self.dice.with(|roll| roll.faults.partial > 0.0);
        capabilities.atomic(capabilities.atomic && !partial)
    }
}

impl<P> Faulty<P> {
    /// Keeps a part of the messages, and says which positions are left out: at least one of each.
    fn split(&self, messages: Vec<Message>) -> (Vec<Message>, Vec<usize>) {
        let mut kept = self.dice.with(|roll| {
            let mut kept: Vec<_> = messages.iter().map(|_| roll.rng.bool()).collect();
            let place = roll.rng.usize(..kept.len());
            kept[place] = !kept[(place + 1) % messages.len()];
            kept
        });
        let not_accepted = kept.iter().enumerate().filter(|(_, kept)| !**kept).map(|(at, _)| at).collect();
        let mut kept = kept.drain(..);
        let sent = messages.into_iter().filter(|_| kept.next().unwrap_or(false)).collect();
        (sent, not_accepted)
    }

    fn some_delay(&self) -> Duration {
        self.dice.with(|roll| roll.faults.delay_max.mul_f64(roll.rng.f64()))
    }
}
