//! [`RetryTopics`]: topics from which a message that has failed is handled again, later.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use super::failure::Then;
use crate::{Publisher, Subscriber, dead_letter::DeadLetter, delay::HoldUntilDue, go_duration};

/// Topics from which a message that has failed is handled again, after a second, ten seconds, a minute, say, and in
/// the end a place for what has failed everywhere. Nothing waits for it meanwhile, which is what it is for: order is
/// given up.
///
/// The topics are named after their delays, `billing.retry.1s`, and belong to one handler: no other consumer group
/// reads a message twice because this one has failed. The router handles their messages as those of the handler's own
/// topic, with its layers, its publisher and its policy's retries in place, under the names `bill.retry.1s` and so on.
/// A message is [safely published](crate::Publisher#contract) to the next topic before its delivery is acked; if it
/// cannot be published, the delivery is nacked.
///
/// Any backend will do: one that delays (an SQL queue), or one where the first message is read and held until it is
/// due, as [`HoldUntilDue`] does. All messages of a topic wait equally long, so none waits for another.
///
/// A message tells in its metadata, under the names of [`metadata_keys`](crate::metadata_keys), why it failed last,
/// where it was consumed first, and how often it was tried in all.
///
/// ```
/// use std::time::Duration;
/// use watermill_core::{FailurePolicy, Handler, MemoryBroker, RetryTopics, Router, error::BoxError};
///
/// # async fn bill() -> Result<(), BoxError> { Ok(()) }
/// let broker = MemoryBroker::new();
/// let retries = RetryTopics::new(broker.publisher(), broker.subscriber().group("billing"), "billing.retry")
///     .after([Duration::from_secs(1), Duration::from_secs(10), Duration::from_secs(60)])
///     .then_dead_letter(broker.publisher(), "billing.dead")
///     .giving_up_order();
/// let router = Router::new().add(
///     Handler::new("bill", bill)
///         .from(broker.subscriber().group("billing"), "orders")
///         .on_failure(FailurePolicy::retry(2).then_retry_topics(retries)),
/// );
/// assert_eq!(router.to_string().lines().count(), 4, "the handler and its three retry topics");
/// ```
#[derive(Clone)]
pub struct RetryTopics {
    publisher: Arc<dyn Publisher>,
    subscriber: Arc<dyn Subscriber>,
    prefix: String,
    delays: Vec<Duration>,
    end: Option<Then>,
    gives_up_order: bool,
    problem: Option<String>,
}

/// One retry topic.
pub(super) struct Tier<'t> {
    pub(super) topics: &'t RetryTopics,
    /// From 0.
    pub(super) number: usize,
}

impl RetryTopics {
    /// Topics whose names begin with `prefix`, which belongs to one handler of one consumer group. `subscriber` reads what
    /// `publisher` publishes; a handler that names a [group](crate::Handler::group) reads them in that group.
    pub fn new(
        publisher: impl Publisher + 'static,
        subscriber: impl Subscriber + 'static,
        prefix: impl Into<String>,
    ) -> Self {
        Self {
            publisher: Arc::new(publisher),
            subscriber: Arc::new(subscriber),
            prefix: prefix.into(),
            delays: Vec::new(),
            end: None,
            gives_up_order: false,
            problem: None,
        }
    }

    /// After how long a message is handled again: the first time, the second, and so on. There must be one at least, all
    /// different and none of them zero.
    #[must_use]
    pub fn after(mut self, delays: impl IntoIterator<Item = Duration>) -> Self {
        self.delays = delays.into_iter().collect();
        self
    }

    /// What fails from the last topic too is published to `topic`, and acked.
    #[must_use]
    pub fn then_dead_letter(mut self, publisher: impl Publisher + 'static, topic: impl Into<String>) -> Self {
        match DeadLetter::new(publisher, topic.into()) {
            Ok(dead_letter) => self.end = Some(Then::DeadLetter(dead_letter)),
            Err(error) => self.problem = Some(error.to_string()),
        }
        self
    }

    /// What fails from the last topic too is rejected: the backend puts it with its own dead letters, where it has
    /// such a place.
    #[must_use]
    pub fn then_reject(mut self) -> Self {
        self.end = Some(Then::Reject);
        self
    }

    /// What fails from the last topic too is acked, with the error in the log: for messages that may be lost.
    #[must_use]
    pub fn then_drop(mut self) -> Self {
        self.end = Some(Then::Drop);
        self
    }

    /// Says that later messages may pass one that has failed. A handler that would otherwise handle messages in order is
    /// refused without it, when the router is built.
    #[must_use]
    pub fn giving_up_order(mut self) -> Self {
        self.gives_up_order = true;
        self
    }

    pub(super) fn gives_up_order(&self) -> bool {
        self.gives_up_order
    }

    /// What a router refuses to start with.
    pub(super) fn problem(&self) -> Option<String> {
        let different: BTreeSet<_> = self.delays.iter().collect();
        let problem = if let Some(problem) = &self.problem {
            problem
        } else if self.prefix.is_empty() {
            "the names of its retry topics have no prefix"
        } else if self.delays.is_empty() || self.delays.contains(&Duration::ZERO) {
            "its retry topics need delays, longer than zero: say `after`"
        } else if different.len() < self.delays.len() {
            "two of its retry topics have the same delay, and topics are named after their delays"
        } else if self.end.is_none() {
            "its retry topics have no end: say `then_dead_letter`, `then_reject` or `then_drop`"
        } else {
            return None;
        };
        Some(problem.to_owned())
    }

    /// What becomes of a message that has failed from all topics before this one.
    pub(super) fn then(&self, number: usize) -> Then {
        let end = match self.end.clone().unwrap_or(Then::Nack) {
            Then::DeadLetter(letter) if number > 0 => Then::DeadLetter(letter.going_on()),
            end => end,
        };
        let Some(delay) = self.delays.get(number) else { return end };
        let topic = Tier { topics: self, number }.topic();
        let Ok(letter) = DeadLetter::new(self.publisher.clone(), topic) else { return end };
        let letter = letter.due_after(*delay);
        Then::RetryFrom(if number > 0 { letter.going_on() } else { letter }, Box::new(end))
    }

    pub(super) fn tiers(&self) -> impl Iterator<Item = Tier<'_>> {
        (0..self.delays.len()).map(|number| Tier { topics: self, number })
    }
}

impl Tier<'_> {
    fn delay(&self) -> Duration {
        self.topics.delays[self.number]
    }

    /// The delay, in a topic's name: `1m` and not `1m0s`.
    pub(super) fn label(&self) -> String {
        let text = go_duration::format(self.delay()).replace("µs", "us");
        let text = text.strip_suffix("m0s").map(|text| format!("{text}m")).unwrap_or(text);
        text.strip_suffix("h0m").map(|text| format!("{text}h")).unwrap_or(text)
    }

    pub(super) fn topic(&self) -> String {
        format!("{}.{}", self.topics.prefix, self.label())
    }

    /// Whoever reads the topic. It trusts no clock for longer than twice the delay.
    pub(super) fn subscriber(&self) -> Arc<dyn Subscriber> {
        let longest = self.delay().saturating_mul(2).max(Duration::from_secs(1));
        Arc::new(HoldUntilDue::new(self.topics.subscriber.clone(), longest))
    }
}

impl fmt::Display for RetryTopics {
    /// Where a message goes, one after another.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for tier in self.tiers() {
            write!(f, "retry from {:?}, then ", tier.topic())?;
        }
        self.end.as_ref().unwrap_or(&Then::Nack).fmt(f)
    }
}

impl fmt::Debug for RetryTopics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RetryTopics({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryBroker;

    fn topics(delays: &[Duration]) -> RetryTopics {
        let broker = MemoryBroker::new();
        RetryTopics::new(broker.publisher(), broker.subscriber(), "retry").after(delays.to_vec()).then_drop()
    }

    #[test]
    fn topics_are_named_after_their_delays() {
        let delays =
            [250, 1_000, 1_500, 10_000, 60_000, 90_000, 3_600_000, 86_400_000].map(Duration::from_millis);
        let names: Vec<_> = topics(&delays).tiers().map(|tier| tier.label()).collect();
        assert_eq!(names, ["250ms", "1s", "1.5s", "10s", "1m", "1m30s", "1h", "24h"]);
    }

    #[test]
    fn what_is_wrong_with_them_is_said() {
        let second = Duration::from_secs(1);
        assert_eq!(topics(&[second]).problem(), None);
        for (wrong, said) in [
            (topics(&[]), "need delays"),
            (topics(&[Duration::ZERO]), "longer than zero"),
            (topics(&[second, second]), "the same delay"),
            (RetryTopics { end: None, ..topics(&[second]) }, "have no end"),
            (RetryTopics { prefix: String::new(), ..topics(&[second]) }, "no prefix"),
            (topics(&[second]).then_dead_letter(MemoryBroker::new().publisher(), ""), "the topic is empty"),
        ] {
            let problem = wrong.problem().unwrap();
            assert!(problem.contains(said), "{problem}");
        }
    }
}
