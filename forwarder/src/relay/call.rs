//! One call: publishes messages of a lane, within its time, and says what was accepted.

use std::sync::Arc;

use futures::future::join_all;
use tracing::Instrument;
use watermill_core::{
    Message, Publisher,
    error::{NotAccepted, PublishError},
};

use super::{
    dead_letters::Placed,
    item::Item,
    lanes::{Call, LaneId},
    ours::{self, Answer, while_ours},
    spans::CallSpan,
};
use crate::{Forwarder, report};

/// A call, and how it ended.
pub(super) struct Called {
    pub(super) lane: LaneId,
    pub(super) began: u64,
    /// What the destination has, in order.
    pub(super) accepted: Vec<Item>,
    /// What is still in hand, in order, and why.
    pub(super) remaining: Vec<Item>,
    pub(super) error: Option<PublishError>,
}

/// Messages that were to be dead-lettered, and what became of them.
pub(super) struct GivenUp {
    pub(super) lane: LaneId,
    pub(super) kept: usize,
    pub(super) reason: &'static str,
    pub(super) remaining: Vec<Item>,
    pub(super) trouble: Option<PublishError>,
}

/// Publishes what is still ours.
pub(super) async fn call(forwarder: &Forwarder, destination: Arc<str>, call: Call) -> Called {
    let Call { lane, mut items, began } = call;
    // A forwarder that lost its place while it waited, or while it was paused, publishes no duplicates
    // of what its successor has.
    items.retain(|item| !item.is_lost());
    let mut called = Called { lane, began, accepted: Vec::new(), remaining: items, error: None };
    if called.remaining.is_empty() {
        return called;
    }
    let shared = &*forwarder.control.shared;
    if let Err(error) = ours::check(shared, &destination) {
        called.error = Some(error);
        return called;
    }
    let messages: Vec<_> =
        called.remaining.iter().filter_map(|item| item.inner.as_ref().ok().cloned()).collect();
    let backend = forwarder.publisher.capabilities().backend;
    let ends = (&*forwarder.config.topic, backend);
    let span = CallSpan::new(forwarder.spans.as_ref(), ends, Some(&destination), messages.iter());
    let answer = while_ours(
        shared,
        &*forwarder.publisher,
        (&destination, &called.remaining),
        forwarder.config.call_timeout,
        publish(&*forwarder.publisher, &destination, messages).instrument(span.get()),
    );
    let (accepted, error) = match answer.await {
        Answer::Answered(answer) => answer,
        Answer::Lost => (Vec::new(), None),
        Answer::InDoubt(error) | Answer::Late(error) => (Vec::new(), Some(error)),
    };
    let mut accepted = accepted.into_iter();
    for item in std::mem::take(&mut called.remaining) {
        if accepted.next().unwrap_or(false) {
            called.accepted.push(item);
        } else if !item.is_lost() {
            called.remaining.push(item);
        }
    }
    let oldest = called.accepted.iter().filter_map(Item::written_at).min();
    span.ended((!called.accepted.is_empty()).then_some(oldest), error.as_ref());
    Called { error, ..called }
}

/// Takes messages to where dead letters are kept.
pub(super) async fn give_up(
    forwarder: &Forwarder,
    lane: LaneId,
    items: Vec<Item>,
    error: Option<PublishError>,
) -> GivenUp {
    let put = |item: Item| {
        let attempts = item.refusals.max(1);
        forwarder.dead_letters.put(item, error.as_ref(), attempts, &forwarder.control.shared)
    };
    let reason = report::reason(error.as_ref());
    let mut given_up = GivenUp { lane, kept: 0, reason, remaining: Vec::new(), trouble: None };
    for placed in join_all(items.into_iter().map(put)).await {
        match placed {
            Placed::Kept => given_up.kept += 1,
            Placed::Lost => {}
            Placed::Refused(item, trouble) => {
                given_up.remaining.push(*item);
                given_up.trouble = Some(trouble);
            }
        }
    }
    given_up
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
