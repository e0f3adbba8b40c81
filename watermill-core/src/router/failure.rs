//! [`FailurePolicy`]: what becomes of a message whose handler fails.

use std::{error::Error, fmt, time::Duration};

use super::{
    retry_topics::{RetryTopics, Tier},
    topology::{FinalStep, OnFailure, Place},
};
use crate::{
    Backoff, Publisher,
    dead_letter::DeadLetter,
    error::{Classifier, Nack, Verdict, find},
};

/// What a handler does with a message it fails on: one declaration, so that retry, timeout and
/// dead letter cannot be stacked in the wrong order.
///
/// It sits outside of every layer: each try runs through all of them, and a timeout layer limits one
/// try, not their sum. Errors of the handler, panics, and outputs that cannot be published all count.
///
/// 1. An error is classified: see [`Verdict::of`]. What is not the message's fault, as a duplicate in
///    progress, is nacked, wherever the policy ends. What trying again cannot mend is given up on at once;
///    the rest is tried again **in place**: the delivery stays where it is, and later messages of its
///    scope wait behind it.
/// 2. When the retries are used up, the message goes where the policy says: nacked (the default),
///    to a dead-letter topic, to the backend's own dead letters, or away.
///
/// A nack waits, longer with each delivery attempt, so that a message that always fails never makes
/// a hot loop.
///
/// ```
/// use std::time::Duration;
/// use watermill_core::{Backoff, FailurePolicy, MemoryBroker};
///
/// let broker = MemoryBroker::new();
/// let policy = FailurePolicy::retry(5)
///     .backoff(Backoff::exponential(Duration::from_millis(50)))
///     .then_dead_letter(broker.publisher(), "billing.dead");
/// ```
#[derive(Clone)]
pub struct FailurePolicy {
    max_retries: u32,
    max_deliveries: u32,
    backoff: Backoff,
    nack_backoff: Backoff,
    classifier: Classifier,
    then: Then,
    /// From where it is tried again, if it is, before it goes where the policy ends.
    retry_topics: Option<RetryTopics>,
    /// What a router refuses to start with.
    problem: Option<String>,
}

#[derive(Clone)]
pub(super) enum Then {
    Nack,
    DeadLetter(DeadLetter),
    Reject,
    Drop,
    /// To a retry topic; and where it goes if trying again cannot mend it.
    RetryFrom(DeadLetter, Box<Then>),
}

/// What to do with one failure.
pub(super) enum Decision<'p> {
    RetryAfter(Duration),
    Nack(Duration),
    DeadLetter(&'p DeadLetter),
    Reject,
    Drop,
}

impl FailurePolicy {
    /// No retries in place: every failure is nacked, with a growing delay. What a handler does
    /// without a policy.
    pub fn nack() -> Self {
        Self::retry(0)
    }

    /// Up to `max_retries` more tries in place, then nack unless told otherwise.
    pub fn retry(max_retries: u32) -> Self {
        Self {
            max_retries,
            max_deliveries: 1,
            backoff: Backoff::default(),
            nack_backoff: Backoff::default(),
            classifier: Classifier::default(),
            then: Then::Nack,
            retry_topics: None,
            problem: None,
        }
    }

    /// Sets the waits between tries in place. The default is [`Backoff::default`].
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets how long a nacked message stays away, by the number of its delivery attempts. The default
    /// is [`Backoff::default`].
    #[must_use]
    pub fn nack_backoff(mut self, backoff: Backoff) -> Self {
        self.nack_backoff = backoff;
        self
    }

    /// Nacks until the message has been delivered this often, by the backend's count, before it goes
    /// where the policy ends; 1 by default. Unlike tries in place, deliveries outlive this process,
    /// and another one may have more luck. An error that is given up on is not nacked first.
    #[must_use]
    pub fn max_deliveries(mut self, deliveries: u32) -> Self {
        self.max_deliveries = deliveries;
        self
    }

    /// Decides from the error, instead of [`Verdict::of`]. Not asked about what is marked with [`Nack`].
    #[must_use]
    pub fn classify(
        mut self,
        classify: impl Fn(&(dyn Error + 'static)) -> Verdict + Send + Sync + 'static,
    ) -> Self {
        self.classifier = Classifier::new(classify);
        self
    }

    /// In the end, nacks: the message comes again, after a delay that grows with its attempts.
    #[must_use]
    pub fn then_nack(self) -> Self {
        self.ending(Then::Nack)
    }

    /// In the end, publishes the message to `topic` with the reason in its metadata, and acks it.
    /// When that fails too, the message is nacked. An empty topic is reported when the router is built.
    #[must_use]
    pub fn then_dead_letter(mut self, publisher: impl Publisher + 'static, topic: impl Into<String>) -> Self {
        match DeadLetter::new(publisher, topic.into()) {
            Ok(dead_letter) => return self.ending(Then::DeadLetter(dead_letter)),
            Err(error) => self.problem = Some(error.to_string()),
        }
        self
    }

    /// In the end, rejects: the backend puts the message with its own dead letters, where it has such
    /// a place.
    #[must_use]
    pub fn then_reject(self) -> Self {
        self.ending(Then::Reject)
    }

    /// In the end, acks the message and logs the error: for messages that may be lost.
    #[must_use]
    pub fn then_drop(self) -> Self {
        self.ending(Then::Drop)
    }

    /// In the end, publishes the message to the first of these topics and acks it: it is handled again from there, later
    /// and out of its order, and goes from one topic to the next until the [retry topics](RetryTopics) end. What
    /// trying again cannot mend goes to their end at once.
    #[must_use]
    pub fn then_retry_topics(mut self, topics: RetryTopics) -> Self {
        self.problem = topics.problem().or(self.problem);
        self.then = topics.then(0);
        self.retry_topics = Some(topics);
        self
    }

    /// The last end that was named counts, and nobody reads retry topics that nothing goes to.
    fn ending(mut self, then: Then) -> Self {
        (self.then, self.retry_topics) = (then, None);
        self
    }

    /// The retry topics, each with the policy of who handles its messages.
    pub(super) fn retry_tiers(&self) -> impl Iterator<Item = (Tier<'_>, Self)> {
        let topics = self.retry_topics.as_ref();
        topics.into_iter().flat_map(RetryTopics::tiers).map(|tier| {
            let then = tier.topics.then(tier.number + 1);
            (tier, Self { then, retry_topics: None, ..self.clone() })
        })
    }

    /// Whether later messages may pass one that has failed without anybody having said so.
    pub(super) fn breaks_order(&self) -> bool {
        self.retry_topics.as_ref().is_some_and(|topics| !topics.gives_up_order())
    }

    /// Whether a copy of the message is needed once the handler has consumed it.
    pub(super) fn needs_copy(&self) -> bool {
        self.max_retries > 0 || matches!(self.then, Then::DeadLetter(_) | Then::RetryFrom(..))
    }

    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// What it does, to print.
    pub(super) fn describe(&self) -> OnFailure {
        let place = |letter: &DeadLetter| Place {
            backend: Some(letter.publisher().capabilities().backend),
            topic: letter.topic().to_owned(),
        };
        let then = match &self.then {
            Then::Nack => FinalStep::Nack,
            Then::DeadLetter(letter) => FinalStep::DeadLetter(place(letter)),
            Then::Reject => FinalStep::Reject,
            Then::Drop => FinalStep::Drop,
            Then::RetryFrom(letter, _) => FinalStep::RetryFrom(place(letter)),
        };
        OnFailure {
            retries: self.max_retries,
            backoff: self.backoff,
            max_deliveries: self.max_deliveries,
            nack_backoff: self.nack_backoff,
            then,
            text: self.to_string(),
        }
    }

    /// `tries` in place so far, of delivery number `attempt`.
    pub(super) fn decide(&self, error: &(dyn Error + 'static), tries: u32, attempt: u32) -> Decision<'_> {
        match (self.classifier.verdict(error), &self.then) {
            (Verdict::Ignore, _) => Decision::Drop,
            (Verdict::Nack, _) => {
                let asked = find::<Nack>(error).map(Nack::delay).unwrap_or_default();
                Decision::Nack(self.nack_delay(attempt).max(asked))
            }
            (Verdict::Retry, _) if tries <= self.max_retries => {
                Decision::RetryAfter(self.backoff.delay(tries.saturating_sub(1)))
            }
            (Verdict::Retry, _) if attempt < self.max_deliveries => Decision::Nack(self.nack_delay(attempt)),
            (Verdict::GiveUp, Then::RetryFrom(_, end)) => self.end(end, attempt),
            (_, then) => self.end(then, attempt),
        }
    }

    fn end<'p>(&self, then: &'p Then, attempt: u32) -> Decision<'p> {
        match then {
            Then::Nack => Decision::Nack(self.nack_delay(attempt)),
            Then::DeadLetter(letter) | Then::RetryFrom(letter, _) => Decision::DeadLetter(letter),
            Then::Reject => Decision::Reject,
            Then::Drop => Decision::Drop,
        }
    }

    pub(super) fn nack_delay(&self, attempt: u32) -> Duration {
        self.nack_backoff.delay(attempt.saturating_sub(1))
    }
}

impl Default for FailurePolicy {
    fn default() -> Self {
        Self::nack()
    }
}

impl fmt::Debug for FailurePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FailurePolicy({self})")
    }
}

impl fmt::Display for FailurePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.max_retries > 0 {
            write!(f, "retry {} times, then ", self.max_retries)?;
        }
        if self.max_deliveries > 1 {
            write!(f, "nack until delivered {} times, then ", self.max_deliveries)?;
        }
        match &self.retry_topics {
            Some(topics) => topics.fmt(f),
            None => self.then.fmt(f),
        }
    }
}

impl fmt::Display for Then {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nack => f.write_str("nack"),
            Self::DeadLetter(dead_letter) => write!(f, "dead-letter to {:?}", dead_letter.topic()),
            Self::Reject => f.write_str("reject"),
            Self::Drop => f.write_str("drop"),
            Self::RetryFrom(letter, _) => write!(f, "retry from {:?}", letter.topic()),
        }
    }
}
