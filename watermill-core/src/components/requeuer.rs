//! [`Requeuer`]: sends messages that have failed back to where they came from.

use std::{fmt, sync::Arc, time::Duration};

use super::passing;
use crate::{
    FailurePolicy, Handler, Handlers, Message, Publisher, Subscriber,
    delay::HoldUntilDue,
    error::{BoxError, ConfigError},
    metadata_keys,
    router::To,
};

/// Takes messages from a topic of dead letters, once they are due, back to the topic that they came from: a handler
/// for any router, which does what Go's requeuer does, with an end and without holding others up.
///
/// Each time, it adds one to `_watermill_requeuer_retries`. A message that has been sent back
/// [`max_retries`](Self::max_retries) times already, ten unless told otherwise, goes to another topic instead, and so does one of
/// which nobody knows where it belongs. Everything else of a message stays as it is: its id, its key, and what its
/// metadata tell of its failure.
///
/// A letter waits until the time in its metadata (a [`DelayOnError`](crate::middleware::DelayOnError) writes one), or
/// for a [`delay`](Self::delay) of ten seconds since it was published, whichever backend it is in. Many wait side by side.
///
/// Every consumer group that reads the topic reads the message again, and it comes behind what was published
/// meanwhile. [Retry topics](crate::RetryTopics) belong to one handler and have neither disadvantage.
///
/// ```
/// use std::time::Duration;
/// use watermill_core::{MemoryBroker, Router, components::Requeuer};
///
/// let broker = MemoryBroker::new();
/// let requeuer = Requeuer::new(broker.subscriber().group("requeuer"), "billing.failed", broker.publisher())
///     .delay(Duration::from_secs(30))
///     .max_retries(5, "billing.dead");
/// let router: Router = Router::new().merge(requeuer.handlers()?);
/// # Ok::<_, watermill_core::error::ConfigError>(())
/// ```
#[must_use = "a requeuer does nothing until its handler is in a router"]
pub struct Requeuer {
    name: String,
    subscriber: Arc<dyn Subscriber>,
    topic: String,
    publisher: Arc<dyn Publisher>,
    delay: Duration,
    longest_delay: Duration,
    waiting: usize,
    rules: Rules,
    policy: FailurePolicy,
}

#[derive(Clone)]
struct Rules {
    target: Arc<Target>,
    /// How often, and where the message goes then.
    end: Option<(u32, String)>,
}

/// How often a message is sent back, unless told otherwise.
const MAX_RETRIES: u32 = 10;

/// How long a letter waits, unless told otherwise: what has failed a moment ago fails again.
const DELAY: Duration = Duration::from_secs(10);

type Target = dyn Fn(&Message) -> Option<String> + Send + Sync;

impl Requeuer {
    /// Takes letters from `topic` back to the topic in `topic_poisoned` of their metadata, with `publisher`. The handler is
    /// named `requeuer`.
    pub fn new(
        subscriber: impl Subscriber + 'static,
        topic: impl Into<String>,
        publisher: impl Publisher + 'static,
    ) -> Self {
        let (policy, topic) = (passing::policy(&subscriber), topic.into());
        let end = Some((MAX_RETRIES, format!("{topic}.given_up")));
        Self {
            name: "requeuer".to_owned(),
            subscriber: Arc::new(subscriber),
            topic,
            publisher: Arc::new(publisher),
            delay: DELAY,
            longest_delay: Duration::from_hours(1),
            waiting: 1_000,
            rules: Rules { target: Arc::new(origin), end },
            policy,
        }
    }

    /// Names the handler, where a router has several requeuers.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Finds the topic that a message goes to; `None` where there is none. By default that in its `topic_poisoned`.
    pub fn target(mut self, target: impl Fn(&Message) -> Option<String> + Send + Sync + 'static) -> Self {
        self.rules.target = Arc::new(target);
        self
    }

    /// How often a message is sent back, and the topic of the same publisher where it goes then: ten times by default, and then to
    /// the topic of the letters with `.given_up` behind it, which nobody reads unless you do.
    pub fn max_retries(mut self, retries: u32, then_to: impl Into<String>) -> Self {
        self.rules.end = Some((retries, then_to.into()));
        self
    }

    /// Sends a message back as often as it comes, as Go's requeuer does. One that has nowhere to go is rejected, where the backend
    /// keeps such, and otherwise nacked again and again, which the log shows.
    pub fn without_end(mut self) -> Self {
        self.rules.end = None;
        self
    }

    /// For how long after it was published a letter waits that does not say when it is due, or says a time that had
    /// passed by then: that of an earlier wait. Ten seconds by default.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self.longest_delay = self.longest_delay.max(delay);
        self
    }

    /// How long a letter waits here at the most, whatever it says: an hour by default, or the [`delay`](Self::delay) if
    /// that is longer.
    pub fn longest_delay(mut self, longest: Duration) -> Self {
        self.longest_delay = longest;
        self
    }

    /// How many letters wait side by side, or are on their way: 1,000 by default. Those of an SQL queue wait there, and
    /// are not counted.
    pub fn waiting(mut self, letters: usize) -> Self {
        self.waiting = letters;
        self
    }

    /// Sets what becomes of a letter that cannot be sent back. By default an unavailable broker is waited for, with growing
    /// pauses, and a letter that has nowhere to go is rejected, where the backend keeps such, or nacked.
    pub fn on_failure(mut self, policy: FailurePolicy) -> Self {
        self.policy = policy;
        self
    }

    /// The handler, to be merged into a router.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], which names every problem.
    pub fn handlers<S: Clone + Send + Sync + 'static>(self) -> Result<Handlers<S>, ConfigError> {
        let end = self.rules.end.as_ref().map(|(_, topic)| topic.as_str());
        ConfigError::check("configure the requeuer")
            .unless(!self.topic.is_empty(), "the topic that it takes messages from has no name")
            .unless(end != Some(""), "the topic for messages that it gives up on has no name")
            .unless(end != Some(&self.topic), "what it gives up on would come back to it; name another topic")
            .unless(self.delay <= self.longest_delay, "longest_delay is shorter than delay")
            .unless(self.waiting > 0, "waiting is 0, so it could not take any message")
            .finish()?;
        let rules = self.rules;
        let send_back = move |letter: Message| {
            let rules = rules.clone();
            async move { rules.send_back(letter) }
        };
        let letters = HoldUntilDue::new(self.subscriber, self.longest_delay).otherwise_after(self.delay);
        let handler = Handler::new(self.name, send_back)
            .from(letters, self.topic)
            .to_topics(self.publisher)
            .concurrency(self.waiting)
            .on_failure(self.policy);
        Ok(Handlers::<()>::new().add(handler).with_state(()))
    }
}

impl Rules {
    fn send_back(&self, letter: Message) -> Result<To<String, Message>, BoxError> {
        let mut letter = letter.without_context();
        // What is no number was not written by a requeuer.
        let count = letter.metadata().get(metadata_keys::REQUEUER_RETRIES);
        let retries = count.and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
        let target = (self.target)(&letter).filter(|topic| !topic.is_empty());
        match (target, &self.end) {
            (_, Some((max, end))) if retries >= *max => {
                tracing::warn!(
                    message_id = letter.id().as_str(),
                    retries,
                    topic = end,
                    "the message has been sent back as often as it may be, and is given up"
                );
                Ok(To(end.clone(), letter))
            }
            (Some(topic), _) => {
                let retries = retries.saturating_add(1).to_string();
                letter.metadata_mut().insert(metadata_keys::REQUEUER_RETRIES, retries);
                Ok(To(topic, letter))
            }
            (None, Some((_, end))) => {
                tracing::warn!(
                    message_id = letter.id().as_str(),
                    topic = end,
                    "nobody knows where the message belongs; it is given up"
                );
                Ok(To(end.clone(), letter))
            }
            (None, None) => Err(passing::nowhere(format!(
                "nobody knows where message {:?} belongs: it has no {}; set a target, or a topic for what is given up",
                letter.id().as_str(),
                metadata_keys::TOPIC_POISONED,
            ))),
        }
    }
}

fn origin(letter: &Message) -> Option<String> {
    letter.metadata().get(metadata_keys::TOPIC_POISONED).map(str::to_owned)
}

impl fmt::Debug for Requeuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requeuer")
            .field("name", &self.name)
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}
