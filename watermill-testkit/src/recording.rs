//! [`RecordingPublisher`]: remembers what was published, and fails when told to.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time;
use watermill_core::{
    Message, Publisher,
    backend::refuse_delays,
    error::{PublishError, PublishErrorKind},
    publisher::PublisherCapabilities,
};

use crate::wait::Watched;

/// A publisher for tests of what publishes: handlers, routers, wrappers.
///
/// It accepts everything at once unless it is told otherwise. Clones share the record.
///
/// ```
/// use watermill_core::{Message, PublisherExt, error::PublishErrorKind};
/// use watermill_testkit::RecordingPublisher;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let publisher = RecordingPublisher::new();
/// publisher.fail_next(1, PublishErrorKind::Unavailable);
/// assert!(publisher.publish_one("orders", Message::new("1")).await.is_err());
/// publisher.publish_one("orders", Message::new("2")).await.unwrap();
/// assert_eq!(publisher.published("orders")[0].payload(), "2");
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct RecordingPublisher {
    record: Arc<Watched<Record>>,
    capabilities: PublisherCapabilities,
    latency: Duration,
}

#[derive(Debug, Default)]
struct Record {
    published: Vec<(String, Message)>,
    calls: Vec<(String, usize)>,
    failures: VecDeque<Failure>,
    held: bool,
    in_flight: usize,
    in_flight_max: usize,
    closed: bool,
}

#[derive(Clone, Debug)]
struct Failure {
    kind: PublishErrorKind,
    /// The positions that are not accepted; `None` for the whole call.
    positions: Option<Vec<usize>>,
}

impl RecordingPublisher {
    /// A publisher that keeps order, answers at once, and may accept a part of a call.
    pub fn new() -> Self {
        let capabilities = PublisherCapabilities::new("recording").keeps_order(true);
        Self { record: Arc::default(), capabilities, latency: Duration::ZERO }
    }

    /// Lets the answer to each call come this much later, as a delivery report does.
    ///
    /// A publisher that keeps order records messages when a call begins. One that does not records
    /// them with the answer, and the more calls are in progress, the sooner a new one is answered:
    /// calls overtake each other.
    #[must_use]
    pub fn with_latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Whether it claims and keeps the order of calls that are in progress together.
    #[must_use]
    pub fn keeps_order(mut self, keeps_order: bool) -> Self {
        self.capabilities = self.capabilities.keeps_order(keeps_order);
        self
    }

    /// Whether it claims to accept calls as a whole.
    #[must_use]
    pub fn atomic(mut self, atomic: bool) -> Self {
        self.capabilities = self.capabilities.atomic(atomic);
        self
    }

    /// Whether it claims to deliver messages when they are due. One that does not refuses a message that
    /// [asks for a delay](Message::asks_for_delay), as a backend does; one that does records it like any other.
    #[must_use]
    pub fn delays(mut self, delays: bool) -> Self {
        self.capabilities = self.capabilities.delays(delays);
        self
    }

    /// Whether it claims to commit with the ack: then outputs name the delivery that they were made of.
    #[must_use]
    pub fn commits_with_ack(mut self, commits_with_ack: bool) -> Self {
        self.capabilities = self.capabilities.commits_with_ack(commits_with_ack);
        self
    }

    /// Makes the next `calls` calls fail with `kind`, after those that were told to fail already.
    /// Nothing of them is recorded as published.
    pub fn fail_next(&self, calls: usize, kind: PublishErrorKind) {
        let failure = Failure { kind, positions: None };
        self.record.change(|record| record.failures.extend(vec![failure; calls]));
    }

    /// Makes the next call accept its messages except those at `positions`; not for one that claims to
    /// be [atomic](Self::atomic).
    pub fn fail_next_at(&self, positions: impl Into<Vec<usize>>, kind: PublishErrorKind) {
        let failure = Failure { kind, positions: Some(positions.into()) };
        self.record.change(|record| record.failures.push_back(failure));
    }

    /// Keeps calls, those in progress too, from being answered until [`release`](Self::release).
    pub fn hold(&self) {
        self.record.change(|record| record.held = true);
    }

    /// Lets held calls be answered.
    pub fn release(&self) {
        self.record.change(|record| record.held = false);
    }

    /// The messages published to `topic`, in order.
    pub fn published(&self, topic: &str) -> Vec<Message> {
        self.record.read(|record| {
            let of_topic = record.published.iter().filter(|(to, _)| to == topic);
            of_topic.map(|(_, message)| message.clone()).collect()
        })
    }

    /// Every message published, with its topic, in order.
    pub fn all_published(&self) -> Vec<(String, Message)> {
        self.record.read(|record| record.published.clone())
    }

    /// Waits until `count` messages have been published to any topics, and returns them all.
    ///
    /// # Panics
    ///
    /// After [`patience`](crate::patience).
    pub async fn await_published(&self, count: usize) -> Vec<(String, Message)> {
        self.record
            .expect(
                &format!("{count} published messages"),
                |record| (record.published.len() >= count).then(|| record.published.clone()),
                |record| record.published.len().to_string(),
            )
            .await
    }

    /// Topic and number of messages of each call, failed ones too, in the order they began.
    pub fn calls(&self) -> Vec<(String, usize)> {
        self.record.read(|record| record.calls.clone())
    }

    /// Waits until `count` calls have begun.
    ///
    /// # Panics
    ///
    /// After [`patience`](crate::patience).
    pub async fn await_calls(&self, count: usize) {
        self.record
            .expect(
                &format!("{count} calls"),
                |record| (record.calls.len() >= count).then_some(()),
                |record| record.calls.len().to_string(),
            )
            .await;
    }

    /// How many calls are in progress.
    pub fn in_flight(&self) -> usize {
        self.record.read(|record| record.in_flight)
    }

    /// How many calls were in progress together at most.
    pub fn in_flight_max(&self) -> usize {
        self.record.read(|record| record.in_flight_max)
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.record.read(|record| record.closed)
    }
}

impl Default for RecordingPublisher {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Publisher for RecordingPublisher {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        if !self.capabilities.delays {
            refuse_delays(topic, &messages)?;
        }
        let mut call = Call::begin(self, topic, messages)?;
        if self.capabilities.keeps_order {
            call.record_accepted();
        }
        if !call.latency.is_zero() {
            time::sleep(call.latency).await;
        }
        self.record.until(|record| (!record.held).then_some(())).await;
        call.record_accepted();
        match call.failure.take() {
            None => Ok(()),
            Some(Failure { kind, positions: None }) => Err(PublishError::new(kind, topic)),
            Some(Failure { kind, positions: Some(positions) }) => {
                Err(PublishError::new(kind, topic).with_not_accepted(positions))
            }
        }
    }

    async fn close(&self) -> Result<(), PublishError> {
        self.record.change(|record| record.closed = true);
        self.record.until(|record| (record.in_flight == 0).then_some(())).await;
        Ok(())
    }

    fn capabilities(&self) -> PublisherCapabilities {
        self.capabilities
    }
}

/// A call in progress; dropped, it is not in flight any more.
struct Call<'a> {
    publisher: &'a RecordingPublisher,
    topic: &'a str,
    accepted: Vec<Message>,
    failure: Option<Failure>,
    latency: Duration,
}

impl<'a> Call<'a> {
    fn begin(
        publisher: &'a RecordingPublisher,
        topic: &'a str,
        mut accepted: Vec<Message>,
    ) -> Result<Self, PublishError> {
        let (failure, in_flight) = publisher.record.change(|record| {
            if record.closed {
                return Err(PublishError::closed(topic));
            }
            record.calls.push((topic.to_owned(), accepted.len()));
            record.in_flight += 1;
            record.in_flight_max = record.in_flight_max.max(record.in_flight);
            Ok((record.failures.pop_front(), record.in_flight))
        })?;
        match &failure {
            None => {}
            Some(Failure { positions: None, .. }) => accepted.clear(),
            Some(Failure { positions: Some(positions), .. }) => {
                let mut position = 0..;
                accepted.retain(|_| !positions.contains(&position.next().expect("an endless range")));
            }
        }
        let overtaking = if publisher.capabilities.keeps_order { 1 } else { in_flight };
        let latency = publisher.latency / u32::try_from(overtaking).unwrap_or(u32::MAX);
        Ok(Self { publisher, topic, accepted, failure, latency })
    }

    fn record_accepted(&mut self) {
        let messages = std::mem::take(&mut self.accepted);
        if !messages.is_empty() {
            let published = messages.into_iter().map(|message| (self.topic.to_owned(), message));
            self.publisher.record.change(|record| record.published.extend(published));
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.publisher.record.change(|record| record.in_flight -= 1);
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, join};
    use watermill_core::{PublisherExt, error::NotAccepted};

    use super::*;

    fn payloads(publisher: &RecordingPublisher) -> Vec<String> {
        let published = publisher.published("t").into_iter();
        published.map(|message| String::from_utf8_lossy(message.payload()).into_owned()).collect()
    }

    #[tokio::test]
    async fn a_partial_failure_records_the_rest_and_names_the_positions() {
        let publisher = RecordingPublisher::new();
        publisher.fail_next_at([1], PublishErrorKind::Unavailable);
        let call = ["a", "b", "c"].map(Message::new).to_vec();
        let error = publisher.publish("t", call).await.unwrap_err();
        assert_eq!(*error.not_accepted(), NotAccepted::At(vec![1]));
        assert_eq!(payloads(&publisher), ["a", "c"]);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_in_progress_overtake_each_other_only_without_order() {
        for keeps_order in [true, false] {
            let publisher =
                RecordingPublisher::new().with_latency(Duration::from_millis(60)).keeps_order(keeps_order);
            let (first, second) = (Message::new("1"), Message::new("2"));
            let (first, second) =
                join!(publisher.publish_one("t", first), publisher.publish_one("t", second));
            first.unwrap();
            second.unwrap();
            assert_eq!(payloads(&publisher), if keeps_order { ["1", "2"] } else { ["2", "1"] });
            assert_eq!(publisher.in_flight_max(), 2);
        }
    }

    #[tokio::test]
    async fn closing_waits_for_calls_in_progress_and_refuses_later_ones() {
        let publisher = RecordingPublisher::new();
        publisher.hold();
        let mut call = publisher.publish_one("t", Message::new("1"));
        assert!((&mut call).now_or_never().is_none());
        let mut close = publisher.close();
        assert!((&mut close).now_or_never().is_none());
        let refused = publisher.publish_one("t", Message::new("2")).await.unwrap_err();
        assert_eq!(refused.kind(), PublishErrorKind::Closed);
        publisher.release();
        call.await.unwrap();
        close.await.unwrap();
        publisher.close().await.unwrap();
    }

    #[tokio::test]
    async fn a_delay_is_refused_unless_it_claims_to_keep_delays() {
        for delays in [false, true] {
            let publisher = RecordingPublisher::new().delays(delays);
            let message = Message::new("1").delay_for(Duration::from_secs(60));
            let refused = publisher.publish_one("t", message).await.err().map(|error| error.kind());
            assert_eq!(refused, (!delays).then_some(PublishErrorKind::Unsupported));
            assert_eq!(publisher.published("t").len(), usize::from(delays));
        }
    }

    #[tokio::test]
    async fn a_dropped_call_is_not_in_flight() {
        let publisher = RecordingPublisher::new();
        publisher.hold();
        let mut call = publisher.publish_one("t", Message::new("1"));
        assert!((&mut call).now_or_never().is_none());
        assert_eq!(publisher.in_flight(), 1);
        drop(call);
        assert_eq!(publisher.in_flight(), 0);
    }
}
