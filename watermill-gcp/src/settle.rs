//! [`Settling`]: how an outcome becomes an ack or a nack of the service.

use std::time::Duration;

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use google_cloud_pubsub::subscriber::handler::Handler;
use tokio::time::Instant;
use watermill_core::{backend::Settled, delivery::Outcome};

use crate::{dead_letters::DeadLetters, error, lease::Lease};

/// What the service is being told, and what goes to the dead letters before it is told.
///
/// On a subscription with exactly-once delivery the service confirms. On any other the client sends acks and
/// nacks within 100 ms and does not tell what came of them: handed to the client is as much as is known, and
/// an ack that was lost is a message that comes again.
pub(crate) struct Settling {
    on_their_way: FuturesUnordered<BoxFuture<'static, ()>>,
    dead_letters: Option<DeadLetters>,
    /// Where rejected messages come from.
    topic: String,
    /// When the client was last handed something that it does not confirm.
    handed_over: Option<Instant>,
}

/// The client sends what it was handed every 100 ms.
const SENT_WITHIN: Duration = Duration::from_millis(150);

impl Settling {
    pub(crate) fn new(topic: &str, dead_letters: Option<DeadLetters>) -> Self {
        Self {
            on_their_way: FuturesUnordered::new(),
            dead_letters,
            topic: topic.to_owned(),
            handed_over: None,
        }
    }

    /// Tells the service, now or after the dead letter is sent.
    pub(crate) fn settle(&mut self, settled: Settled<Lease>, now: Instant) {
        let reason = match &settled.outcome {
            Outcome::Ack => return self.tell(settled, true, now),
            Outcome::Reject { reason } => reason.clone(),
            _ => return self.tell(settled, false, now),
        };
        let (message, attempts) = (settled.message.clone(), settled.attempt);
        let Some(dead_letters) = self.dead_letters.clone() else {
            settled.log_if_dropped(&self.topic);
            return self.tell(settled, true, now);
        };
        let sending = dead_letters.send(self.topic.clone(), message, reason, attempts);
        self.on_their_way.push(
            async move {
                sending.await;
                if let Some(confirming) = tell(settled, true) {
                    confirming.await;
                }
            }
            .boxed(),
        );
    }

    fn tell(&mut self, settled: Settled<Lease>, ack: bool, now: Instant) {
        match tell(settled, ack) {
            Some(confirming) => self.on_their_way.push(confirming),
            None => self.handed_over = Some(now),
        }
    }

    /// When everything that is not confirmed is sent.
    pub(crate) fn sent_by(&self) -> Instant {
        self.handed_over.map_or_else(Instant::now, |handed_over| handed_over + SENT_WITHIN)
    }

    /// How many have had no last word yet.
    pub(crate) fn len(&self) -> usize {
        self.on_their_way.len()
    }

    /// Waits until one of them has its last word; without end where there is none.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost by dropping it.
    pub(crate) async fn one(&mut self) {
        if self.on_their_way.next().await.is_none() {
            std::future::pending().await
        }
    }

    /// Waits for all of them.
    pub(crate) async fn all(&mut self) {
        while self.on_their_way.next().await.is_some() {}
    }

    /// Gives up on the rest, whose receipts say that nobody knows.
    pub(crate) fn clear(&mut self) {
        self.on_their_way.clear();
    }
}

/// What remains to be awaited.
fn tell(mut settled: Settled<Lease>, ack: bool) -> Option<BoxFuture<'static, ()>> {
    let handler = match settled.id.handler.take() {
        Some(Handler::ExactlyOnce(handler)) => handler,
        handler => {
            match handler {
                Some(handler) if ack => handler.ack(),
                // Dropped, it nacks.
                handler => drop(handler),
            }
            settled.recorded();
            return None;
        }
    };
    let confirming = async move {
        let told = if ack { handler.confirmed_ack().await } else { handler.confirmed_nack().await };
        match told.map_err(error::of_ack) {
            Ok(()) => settled.recorded(),
            Err(error) => {
                let id = settled.message.id();
                tracing::debug!(message_id = %id, %error, ack, "the service has not confirmed");
                settled.failed(error);
            }
        }
    };
    Some(confirming.boxed())
}
