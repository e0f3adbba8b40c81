//! [`MemoryPublisher`].

use std::{
    fmt,
    future::{Future, ready},
    pin::Pin,
    slice,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use async_trait::async_trait;
use futures::future::BoxFuture;
use tokio::{sync::oneshot, task::coop, time};

use super::{
    BACKEND,
    broker::Shared,
    error,
    marshaler::strip,
    topic::{Batch, Topic},
};
use crate::{
    Message, Publisher,
    backend::{Call, Calls, refuse_delays},
    error::PublishError,
    handling,
    message::vector,
    publisher::PublisherCapabilities,
};

/// Publishes to the topics of a [`MemoryBroker`](super::MemoryBroker).
///
/// A call is accepted as a whole, by every group of the topic at once, or not at all. Without room it
/// waits, and waiting calls are accepted in the order in which they were made. Clones are the same
/// publisher: closing one closes all.
///
/// # Cancel safety
///
/// The messages are accepted by the call itself where there is room; its future, dropped before, has
/// published all of them. One that waits for room has published none.
pub struct MemoryPublisher {
    broker: Arc<Shared>,
    /// The topic used first.
    usual: OnceLock<Arc<Topic>>,
    /// Counts the calls that have to wait; the others are over at their first poll.
    calls: Calls,
}

/// What a call still has to wait for. Boxed by those few that wait, so that the future of the
/// others stays small.
struct Unfinished {
    room: Option<Room>,
    acked: Option<oneshot::Receiver<()>>,
    _in_progress: Call,
}

/// The wait of a batch for its admission. Dropped before, it takes the batch back.
struct Room {
    topic: Arc<Topic>,
    ticket: u64,
}

impl MemoryPublisher {
    pub(super) fn new(broker: Arc<Shared>) -> Self {
        Self { broker, usual: OnceLock::new(), calls: Calls::default() }
    }

    /// All of a call that can be done without waiting.
    #[inline]
    fn begin(
        &self,
        topic: &str,
        mut messages: Vec<Message>,
    ) -> Result<Option<Box<Unfinished>>, PublishError> {
        let config = &self.broker.config;
        self.calls.check(topic)?;
        if messages.len() > config.capacity {
            return Err(error::more_than_a_group_holds(topic, messages.len(), config.capacity));
        }
        // Before any lock is taken: what an extension does when it is dropped is not ours to know.
        for message in &mut messages {
            refuse_delays(topic, slice::from_ref(message))?;
            strip(message, config.preserve_extensions);
        }
        if config.publish_waits_for_ack.is_some() && !handling::is_handling() {
            return self.begin_to_wait(topic, messages);
        }
        if !messages.is_empty()
            && let Some(full) = self.broker.offer(&self.usual, topic, &mut messages, None)
        {
            return self.unfinished(topic, Some((full, Batch { messages, confirm: None })), None).map(Some);
        }
        vector::reuse(messages);
        Ok(None)
    }

    /// The same for a call that waits for acks.
    #[inline(never)]
    fn begin_to_wait(
        &self,
        topic: &str,
        mut messages: Vec<Message>,
    ) -> Result<Option<Box<Unfinished>>, PublishError> {
        if messages.is_empty() {
            return Ok(None);
        }
        let (confirm, acked) = oneshot::channel();
        let confirm = Arc::new(confirm);
        let full = self.broker.offer(&self.usual, topic, &mut messages, Some(&confirm));
        let full = full.map(|topic| (topic, Batch { messages, confirm: Some(confirm) }));
        self.unfinished(topic, full, Some(acked)).map(Some)
    }

    /// A call that waits: for room in a topic, for acks or for both. Fails if the publisher was closed meanwhile.
    #[inline(never)]
    fn unfinished(
        &self,
        topic: &str,
        full: Option<(Arc<Topic>, Batch)>,
        acked: Option<oneshot::Receiver<()>>,
    ) -> Result<Box<Unfinished>, PublishError> {
        // Counted before it is asked whether the publisher was closed meanwhile: either `close` sees
        // this call, or this call sees the close.
        let in_progress = self.calls.in_progress();
        let room = match full {
            Some(_) if self.calls.is_closed() => return Err(PublishError::closed(topic)),
            Some((topic, batch)) => {
                let ticket = topic.enqueue(batch);
                Some(Room { topic, ticket })
            }
            None => None,
        };
        Ok(Box::new(Unfinished { room, acked, _in_progress: in_progress }))
    }

    async fn finish(&self, topic: &str, unfinished: Box<Unfinished>) -> Result<(), PublishError> {
        let Unfinished { room, acked, _in_progress } = *unfinished;
        if let Some(room) = room {
            room.await;
        }
        if let (Some(acked), Some(at_most)) = (acked, self.broker.config.publish_waits_for_ack) {
            // The sender is never used, only dropped, with the last record of the call.
            let wait = time::timeout(at_most, acked).await;
            wait.map(|_| ()).map_err(|_| error::not_acked_in_time(topic, at_most))?;
        }
        Ok(())
    }
}

#[async_trait]
impl Publisher for MemoryPublisher {
    // Written out, because most calls are over before there is anything to wait for: their future has
    // no state, and a box without content is no allocation.
    fn publish<'this, 'topic, 'call>(
        &'this self,
        topic: &'topic str,
        messages: Vec<Message>,
    ) -> BoxFuture<'call, Result<(), PublishError>>
    where
        'this: 'call,
        'topic: 'call,
        Self: 'call,
    {
        match self.begin(topic, messages) {
            Ok(None) => Box::pin(Accepted),
            Ok(Some(unfinished)) => Box::pin(self.finish(topic, unfinished)),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    async fn close(&self) -> Result<(), PublishError> {
        self.calls.close().await;
        Ok(())
    }

    fn capabilities(&self) -> PublisherCapabilities {
        PublisherCapabilities::new(BACKEND).keeps_order(true).atomic(true)
    }
}

/// The call was accepted when it was made.
struct Accepted;

impl Future for Accepted {
    type Output = Result<(), PublishError>;

    /// A task that only publishes lets others run, too: after its messages are accepted, because a
    /// wait before would change the order of calls.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        coop::poll_proceed(cx).map(|budget| {
            budget.made_progress();
            Ok(())
        })
    }
}

impl Future for Room {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.topic.is_admitted(self.ticket, cx.waker()) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.topic.withdraw(self.ticket);
    }
}

impl Clone for MemoryPublisher {
    fn clone(&self) -> Self {
        Self { broker: self.broker.clone(), usual: OnceLock::new(), calls: self.calls.clone() }
    }
}

impl fmt::Debug for MemoryPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryPublisher").field("closed", &self.calls.is_closed()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{task::Waker, time::Duration};

    use super::*;
    use crate::{MemoryBroker, Subscriber, memory::MemoryConfig};

    #[tokio::test]
    async fn a_handler_that_publishes_to_its_own_topic_does_not_wait_for_itself() {
        // P22: in Go, a handler that publishes to its own topic in blocking mode deadlocks.
        let config = MemoryConfig::default().publish_waits_for_ack(Some(Duration::from_secs(3600)));
        let broker = MemoryBroker::with_config(config).unwrap();
        let _subscription = broker.subscriber().subscribe("own").await.unwrap();
        let publisher = broker.publisher();
        let mut cx = Context::from_waker(Waker::noop());

        let publish = || publisher.publish("own", vec![Message::new("x")]).as_mut().poll(&mut cx);
        let inside = handling::while_handling(publish);
        assert!(matches!(inside, Poll::Ready(Ok(()))));

        let mut outside = publisher.publish("own", vec![Message::new("x")]);
        assert!(outside.as_mut().poll(&mut cx).is_pending());
    }
}
