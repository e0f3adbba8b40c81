//! Publishing, with faults.

use std::{collections::HashMap, time::Duration};

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
        if self.injector.happens(|faults| faults.before_send, |injected| &mut injected.failed_before_send) {
            return fail(PublishErrorKind::Unavailable);
        }
        if messages.len() > 1
            && self.injector.happens(|faults| faults.partial, |injected| &mut injected.partial)
        {
            let (sent, not_accepted) = self.cut_tails(messages);
            self.inner.publish(topic, sent).await?;
            let error = PublishError::new(PublishErrorKind::Unavailable, topic).because(INJECTED);
            return Err(error.with_not_accepted(not_accepted));
        }
        self.inner.publish(topic, messages).await?;
        // The answer is late, and not the sending: order is kept.
        if self.injector.happens(|faults| faults.delay, |injected| &mut injected.delayed) {
            time::sleep(self.some_delay()).await;
        }
        if self.injector.happens(|faults| faults.after_send, |injected| &mut injected.failed_after_send) {
            return fail(PublishErrorKind::Timeout);
        }
        Ok(())
    }

    fn take_back(&self) {
        self.inner.take_back();
    }

    async fn close(&self) -> Result<(), PublishError> {
        self.inner.close().await
    }

    fn capabilities(&self) -> PublisherCapabilities {
        let capabilities = self.inner.capabilities();
        let partial = self.injector.with(|state| state.faults.partial > 0.0);
        capabilities.atomic(capabilities.atomic && !partial)
    }
}

impl<P> Faulty<P> {
    /// Cuts the tails of keys: keeps the first messages of each, and says which positions are left out, at
    /// least one. Messages without a key count as those of one more.
    fn cut_tails(&self, messages: Vec<Message>) -> (Vec<Message>, Vec<usize>) {
        let mut lengths = HashMap::<_, usize>::new();
        for message in &messages {
            *lengths.entry(message.key().cloned()).or_default() += 1;
        }
        let mut kept: HashMap<_, usize> = self.injector.with(|state| {
            let keep = |(key, length)| (key, state.rng.usize(..=length));
            // In the order of the call, or a seed would not repeat its faults.
            let keys: Vec<_> = messages.iter().map(|message| message.key().cloned()).collect();
            keys.into_iter().filter_map(|key| lengths.remove_entry(&key)).map(keep).collect()
        });
        let (mut sent, mut not_accepted) = (Vec::new(), Vec::new());
        let last = messages.len() - 1;
        for (at, message) in messages.into_iter().enumerate() {
            let left = kept.entry(message.key().cloned()).or_default();
            // The last message of a call is the last of its key: to leave it out cuts a tail.
            if *left == 0 || (at == last && not_accepted.is_empty()) {
                *left = 0;
                not_accepted.push(at);
            } else {
                *left -= 1;
                sent.push(message);
            }
        }
        (sent, not_accepted)
    }

    fn some_delay(&self) -> Duration {
        self.injector.with(|state| state.faults.delay_max.mul_f64(state.rng.f64()))
    }
}
