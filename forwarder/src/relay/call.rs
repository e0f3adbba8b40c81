//! One call: publishes messages of a lane, and decides what becomes of those that were not accepted.

use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use watermill_core::{
    Message, Publisher,
    error::{NotAccepted, PublishError, PublishErrorKind, chain},
};

use super::{item::Item, lane::LaneBatch, lanes::LaneId};
use crate::Forwarder;

/// An attempt to publish messages of a lane, and how it ended.
pub(super) struct Attempt {
    pub(super) lane: LaneId,
    pub(super) forwarded: usize,
    pub(super) dead_lettered: usize,
    /// What is still in hand, in order.
    pub(super) remaining: Vec<Item>,
    pub(super) verdict: Verdict,
}

/// What is to become of what remains, and of its lane.
pub(super) enum Verdict {
    /// Nothing remains, and nothing is wrong with the destination.
    Done,
    /// Nothing remains, because the destination failed too often and its messages were given up.
    GaveUp,
    /// Try again in smaller calls: one message among the others is at fault.
    Narrow,
    /// Try again after a wait.
    Retry,
    /// Nothing was tried, since the forwarder stops.
    Stopped,
    /// The publisher was closed: nothing can be forwarded any more.
    Closed(PublishError),
}

/// What can be done about a failure.
#[derive(Debug, PartialEq, Eq)]
enum Remedy {
    Retry,
    Narrow,
    GiveUp,
    Stop,
}

/// Waits until the call may begin, publishes, and acks what was accepted.
pub(super) async fn call(
    forwarder: &Forwarder,
    stopping: &CancellationToken,
    lane: LaneId,
    batch: LaneBatch,
) -> Attempt {
    let LaneBatch { mut items, retry_at, failures } = batch;
    if let Some(retry_at) = retry_at {
        tokio::select! {
            biased;
            () = stopping.cancelled() => return Attempt::new(lane, items, Verdict::Stopped),
            () = sleep_until(retry_at) => {}
        }
    }
    // A forwarder that lost its place while it waited, or while it was paused, publishes no duplicates
    // of what its successor has.
    items.retain(|item| !item.is_lost());
    if items.is_empty() {
        return Attempt::new(lane, items, Verdict::Done);
    }

    let attempts = failures.saturating_add(1);
    let Some(destination) = lane.destination.clone() else {
        return dead_letter(forwarder, Attempt::new(lane, items, Verdict::Done), None, attempts).await;
    };
    let size = items.len();
    let messages = items.iter().filter_map(|item| item.inner.as_ref().ok().cloned()).collect();
    let (accepted, error) = publish(&*forwarder.publisher, &destination, messages).await;
    let mut attempt = Attempt::new(lane, items, Verdict::Done);
    attempt.forwarded = attempt.ack(&accepted);
    let Some(error) = error else { return attempt };

    // What was accepted beside a failure shows that the destination works: counting begins again.
    let attempts = if attempt.forwarded > 0 { 1 } else { attempts };
    let remedy = remedy(&error, forwarder.config.attempts, attempts, attempt.remaining.len());
    tracing::warn!(
        topic = %forwarder.config.topic, %destination, messages = attempt.remaining.len(), of = size, attempts,
        error = %chain(&error), ?remedy, "not accepted",
    );
    attempt.verdict = match remedy {
        Remedy::Retry => Verdict::Retry,
        Remedy::Narrow => Verdict::Narrow,
        Remedy::Stop => Verdict::Closed(error),
        Remedy::GiveUp => return dead_letter(forwarder, attempt, Some(&error), attempts).await,
    };
    attempt
}

/// Dead-letters what remains. When that fails, the next attempt begins with the destination again: it
/// may have recovered first.
async fn dead_letter(
    forwarder: &Forwarder,
    mut attempt: Attempt,
    error: Option<&PublishError>,
    attempts: u32,
) -> Attempt {
    // The destination was asked for some time: what was lost meanwhile is for its new owner to give up.
    attempt.remaining.retain(|item| !item.is_lost());
    if attempt.remaining.is_empty() {
        return attempt;
    }
    let letters =
        attempt.remaining.iter().map(|item| item.dead_letter(&forwarder.handler, error, attempts)).collect();
    let topic = &*forwarder.config.dead_letter_topic;
    let (accepted, trouble) = publish(&*forwarder.dead_letters, topic, letters).await;
    attempt.dead_lettered = attempt.ack(&accepted);
    if attempt.dead_lettered > 0 {
        tracing::error!(
            topic = %forwarder.config.topic, destination = attempt.lane.destination.as_deref(),
            messages = attempt.dead_lettered, dead_letter_topic = topic,
            error = error.map(|error| chain(error)), "dead-lettered",
        );
    }
    attempt.verdict = match trouble {
        None if error.is_some_and(PublishError::is_retryable) => Verdict::GaveUp,
        None => Verdict::Done,
        Some(trouble) if trouble.kind() == PublishErrorKind::Closed => Verdict::Closed(trouble),
        Some(trouble) => {
            tracing::error!(
                dead_letter_topic = topic, messages = attempt.remaining.len(), error = %chain(&trouble),
                "not dead-lettered, the messages are held",
            );
            Verdict::Retry
        }
    };
    attempt
}

/// Publishes, and says of each message whether it was accepted.
async fn publish(
    publisher: &dyn Publisher,
    topic: &str,
    messages: Vec<Message>,
) -> (Vec<bool>, Option<PublishError>) {
    let count = messages.len();
    match publisher.publish(topic, messages).await {
        Ok(()) => (vec![true; count], None),
        Err(error) => {
            let mut accepted = vec![matches!(error.not_accepted(), NotAccepted::At(_)); count];
            if let NotAccepted::At(positions) = error.not_accepted() {
                for position in positions {
                    if let Some(accepted) = accepted.get_mut(*position) {
                        *accepted = false;
                    }
                }
            }
            (accepted, Some(error))
        }
    }
}

fn remedy(error: &PublishError, attempts_max: Option<u32>, attempts: u32, remaining: usize) -> Remedy {
    match error.kind() {
        PublishErrorKind::Closed => Remedy::Stop,
        PublishErrorKind::Topic => Remedy::GiveUp,
        // One message may be at fault, or there are too many for one call: no message is given up for
        // what its neighbours are.
        _ if !error.is_retryable() && remaining > 1 => Remedy::Narrow,
        _ if !error.is_retryable() => Remedy::GiveUp,
        _ if attempts_max.is_some_and(|max| attempts >= max) => Remedy::GiveUp,
        _ => Remedy::Retry,
    }
}

impl Attempt {
    fn new(lane: LaneId, remaining: Vec<Item>, verdict: Verdict) -> Self {
        Self { lane, forwarded: 0, dead_lettered: 0, remaining, verdict }
    }

    /// Acks what was accepted, in order, keeps the rest, and says how many were acked.
    fn ack(&mut self, accepted: &[bool]) -> usize {
        let before = self.remaining.len();
        let items = std::mem::take(&mut self.remaining);
        for (item, accepted) in items.into_iter().zip(accepted) {
            if *accepted {
                item.ack();
            } else {
                self.remaining.push(item);
            }
        }
        before - self.remaining.len()
    }
}
