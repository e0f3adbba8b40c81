//! What becomes of what was not accepted: what is away is waited for, what is refused for itself is given up.

use std::time::Duration;

use futures::FutureExt;
use tokio::time::Instant;
use watermill_core::{
    Backoff,
    error::{Delayed, PublishError, PublishErrorKind, chain, find},
};

use super::{
    Event, Relay,
    call::{Called, GivenUp, give_up},
    item::Item,
    lanes::LaneId,
};
use crate::end::End;

/// A destination that asks for more time than this is tried after it.
const ASKED_MAX: Duration = Duration::from_secs(60 * 60);

impl Relay<'_> {
    /// A call has come back.
    pub(super) fn called(&mut self, called: Called) -> Option<End> {
        let Called { lane, began, accepted, mut remaining, error } = called;
        let accepted_count = accepted.len();
        self.report.accepted(lane.destination.as_deref(), accepted_count as u64);
        self.report.outbox.accepted(accepted.iter());
        self.lanes.ended(&lane, accepted_count);
        if !accepted.is_empty() {
            self.record(accepted);
        }
        let error = error?;
        tracing::warn!(
            topic = %self.forwarder.config.topic, destination = lane.destination.as_deref(),
            messages = remaining.len(), accepted = accepted_count, error = %chain(&error), "not accepted",
        );
        match error.kind() {
            PublishErrorKind::Closed | PublishErrorKind::Fenced => {
                if let Some(lane) = self.lanes.get(&lane) {
                    lane.put_back(remaining);
                }
                return Some(match error.kind() {
                    PublishErrorKind::Fenced => End::Fenced(Some(error)),
                    _ => End::PublisherClosed(error),
                });
            }
            _ if remaining.is_empty() => {}
            _ if is_of_the_destination(&error) => self.wait(&lane, remaining, accepted_count > 0, &error),
            // One message may be at fault, or there are too many for one call: none is given up for what its
            // neighbours are.
            _ if remaining.len() > 1 => {
                if let Some(lane) = self.lanes.get(&lane) {
                    lane.narrow(remaining.len());
                    lane.put_back(remaining);
                }
            }
            _ => {
                if let Some(item) = remaining.pop() {
                    self.refused(lane, item, began, error);
                }
            }
        }
        None
    }

    /// The destination is away, slow or not set up: that is waited for, however long it takes.
    fn wait(&mut self, lane: &LaneId, remaining: Vec<Item>, others_passed: bool, error: &PublishError) {
        if error.kind() == PublishErrorKind::Timeout
            && let Some(lane) = self.lanes.get(lane)
        {
            lane.timed_out(remaining.len());
        }
        let failures = self.lanes.get(lane).map_or(0, |lane| lane.failures());
        let wait = wait_for(&self.forwarder.config.backoff, failures, error);
        let (error, now) = (chain(error), Instant::now());
        if others_passed {
            self.lanes.set_aside(lane, remaining, &error, now, wait);
        } else {
            self.lanes.hold(lane, remaining, &error, now, wait);
        }
    }

    /// A message was refused alone.
    fn refused(&mut self, lane: LaneId, mut item: Item, began: u64, error: PublishError) {
        let config = &self.forwarder.config;
        let by_its_word = error.kind() == PublishErrorKind::Message;
        let for_itself = self.lanes.refused(&lane, &mut item, began, by_its_word);
        if for_itself && config.attempts.is_some_and(|max| item.refusals >= max) {
            if let Some(lane) = self.lanes.get(&lane) {
                lane.begin_by_hand();
            }
            let given_up = give_up(self.forwarder, lane, vec![item], Some(error));
            return self.going_on.push(given_up.map(Event::GivenUp).boxed());
        }
        let now = Instant::now();
        let wait = config.backoff.delay(item.refusals - 1);
        let error = chain(&error);
        self.lanes.set_aside(&lane, vec![item], &error, now, wait);
        if lane.aside.is_none()
            && self.lanes.refuses_everybody(&lane)
            && let Some(main) = self.lanes.get(&lane)
        {
            // Its other messages are tried one by one, and ever less often.
            let wait = config.backoff.delay(main.failures());
            main.failed(|| error, now, wait);
        }
    }

    /// Dead letters have been put somewhere, or not.
    pub(super) fn given_up(&mut self, given_up: GivenUp) -> Option<End> {
        let GivenUp { lane: id, kept, reason, remaining, trouble } = given_up;
        self.report.gave_up(id.destination.as_deref(), kept as u64, reason);
        let lane = self.lanes.get(&id)?;
        lane.end();
        let Some(trouble) = trouble else {
            lane.relieved();
            return None;
        };
        tracing::error!(
            dead_letter_topic = self.forwarder.config.dead_letter_topic, messages = remaining.len(),
            error = %chain(&trouble), "not dead-lettered, the messages are held",
        );
        let wait = wait_for(&self.forwarder.config.backoff, lane.failures(), &trouble);
        self.lanes.hold(&id, remaining, &chain(&trouble), Instant::now(), wait);
        (trouble.kind() == PublishErrorKind::Closed).then(|| End::PublisherClosed(trouble))
    }
}

/// Whether it says nothing about the messages: the destination may take every one of them, later.
fn is_of_the_destination(error: &PublishError) -> bool {
    error.is_retryable() || error.kind() == PublishErrorKind::Topic
}

/// When a destination is tried again that has failed so often: no sooner than it asks for.
fn wait_for(backoff: &Backoff, failures: u32, error: &PublishError) -> Duration {
    let asked = find::<Delayed>(error).map(Delayed::delay).unwrap_or_default();
    backoff.delay(failures).max(asked.min(ASKED_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_that_says_when_is_not_tried_before() {
        let seconds = Duration::from_secs;
        let backoff = Backoff::constant(seconds(2));
        let wait = |asked| {
            let busy = PublishError::new(PublishErrorKind::Unavailable, "orders");
            wait_for(&backoff, 0, &busy.with_source(Delayed::new("busy", asked)))
        };
        assert_eq!(wait(seconds(30)), seconds(30));
        assert_eq!(wait(seconds(1)), seconds(2));
        assert_eq!(wait(Duration::MAX), ASKED_MAX);
        let silent = PublishError::new(PublishErrorKind::Unavailable, "orders");
        assert_eq!(wait_for(&backoff, 0, &silent), seconds(2));
    }
}
