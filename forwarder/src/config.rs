//! [`ForwarderConfig`]: what a forwarder does, as plain data.

use std::{num::NonZeroUsize, time::Duration};

use watermill_core::{Backoff, Window, error::ConfigError};

use crate::{DEFAULT_DEAD_LETTER_TOPIC, DEFAULT_TOPIC};

/// Options of a [`Forwarder`](crate::Forwarder).
///
/// ```
/// use watermill_forwarder::ForwarderConfig;
///
/// let config = ForwarderConfig::default().topic("outbox").batch_size(1000);
/// assert_eq!(config.validate(), Ok(()));
/// let error = config.batch_size(0).validate().unwrap_err();
/// assert_eq!(error.problems().collect::<Vec<_>>(), ["batch_size is zero: nothing could be forwarded"]);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ForwarderConfig {
    /// The topic that envelopes are read from. Default: [`DEFAULT_TOPIC`].
    pub topic: String,
    /// The most messages published in one call. As many again are taken from the source meanwhile.
    /// Default: 500.
    pub batch_size: usize,
    /// How long to wait for a batch to fill before it is published. Default: not at all; what comes
    /// while a batch is on its way makes the next one.
    pub linger: Duration,
    /// The waits between attempts to publish to a destination that fails. Default: [`Backoff`]'s,
    /// from 100 ms to 30 s.
    pub backoff: Backoff,
    /// After how many attempts in a row messages are dead-lettered, when trying again may help;
    /// `None` tries for ever. From then on each call to that destination has one attempt, until one
    /// succeeds. Default: 16, about four minutes with the default backoff.
    pub attempts: Option<u32>,
    /// The most messages held for destinations that fail. At the bound nothing more is taken from the
    /// source until a destination recovers or its messages are dead-lettered. Default: 1000.
    pub max_blocked: usize,
    /// The topic for what cannot be forwarded. Default: [`DEFAULT_DEAD_LETTER_TOPIC`].
    pub dead_letter_topic: String,
    /// What becomes of a message that is not an envelope. Default: dead-lettered.
    pub on_unreadable: OnUnreadable,
    /// How long a stop waits for what is in hand to be published. What is left then is given back to
    /// the source. Default: 30 s.
    pub drain_timeout: Duration,
}

/// What becomes of a message on the forwarder topic that is not an envelope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnUnreadable {
    /// It goes to the dead-letter topic, as it came, with the reason in its metadata.
    #[default]
    DeadLetter,
    /// It is acked, with an error in the log: it is lost.
    Ack,
    /// It is held for the [backoff](ForwarderConfig::backoff) of its attempt, counted as blocked, and
    /// then nacked: it comes again and holds up what is behind it, until somebody removes it.
    Nack,
}

impl ForwarderConfig {
    /// Sets [`topic`](Self::topic).
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = topic.into();
        self
    }

    /// Sets [`batch_size`](Self::batch_size).
    #[must_use]
    pub fn batch_size(mut self, batch_size: usize) -> Self {
        self.batch_size = batch_size;
        self
    }

    /// Sets [`linger`](Self::linger).
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// Sets [`backoff`](Self::backoff).
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets [`attempts`](Self::attempts).
    #[must_use]
    pub fn attempts(mut self, attempts: impl Into<Option<u32>>) -> Self {
        self.attempts = attempts.into();
        self
    }

    /// Sets [`max_blocked`](Self::max_blocked).
    #[must_use]
    pub fn max_blocked(mut self, max_blocked: usize) -> Self {
        self.max_blocked = max_blocked;
        self
    }

    /// Sets [`dead_letter_topic`](Self::dead_letter_topic).
    #[must_use]
    pub fn dead_letter_topic(mut self, topic: impl Into<String>) -> Self {
        self.dead_letter_topic = topic.into();
        self
    }

    /// Sets [`on_unreadable`](Self::on_unreadable).
    #[must_use]
    pub fn on_unreadable(mut self, on_unreadable: OnUnreadable) -> Self {
        self.on_unreadable = on_unreadable;
        self
    }

    /// Sets [`drain_timeout`](Self::drain_timeout).
    #[must_use]
    pub fn drain_timeout(mut self, drain_timeout: Duration) -> Self {
        self.drain_timeout = drain_timeout;
        self
    }

    /// Whether it can work. Building a forwarder asks, too.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with every problem there is.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.check().finish()
    }

    /// What is wrong with the options; the builders add what else they see.
    pub(crate) fn check(&self) -> ConfigError {
        let topic_is_free = self.topic.is_empty() || self.dead_letter_topic != self.topic;
        ConfigError::check("configure the forwarder")
            .unless(!self.topic.is_empty(), "topic is empty: name the topic that envelopes are read from")
            .unless(self.batch_size > 0, "batch_size is zero: nothing could be forwarded")
            .unless(self.attempts != Some(0), "attempts is zero: use 1 to give up after the first failure")
            .unless(
                self.max_blocked > 0,
                "max_blocked is zero: the first failure would stop all destinations",
            )
            .unless(
                !self.dead_letter_topic.is_empty(),
                "dead_letter_topic is empty: name a topic for dead letters",
            )
            .unless(
                topic_is_free,
                "dead_letter_topic is the forwarder topic: dead letters would be read again for ever",
            )
    }

    /// How many messages that nothing is wrong with may be in hand: one batch on its way, and the next.
    pub(crate) fn max_flowing(&self) -> usize {
        self.batch_size.saturating_mul(2)
    }

    /// Wide enough that the source never waits for messages which are blocked, whatever scopes these are of, and no
    /// wider than what may be in hand.
    pub(crate) fn window(&self) -> Window {
        window(self.max_flowing().saturating_add(self.max_blocked))
    }

    /// The same where nothing is blocked by itself: a batch that is committed, and one of which acks are on their way.
    pub(crate) fn fenced_window(&self) -> Window {
        window(self.max_flowing())
    }
}

/// A scope may have all of it: what waits in the lanes here is kept in order by destination and key, not by scope.
fn window(in_hand: usize) -> Window {
    let in_hand = NonZeroUsize::new(in_hand).unwrap_or(NonZeroUsize::MIN);
    Window::ordered(in_hand).with_total(in_hand)
}

impl Default for ForwarderConfig {
    fn default() -> Self {
        Self {
            topic: DEFAULT_TOPIC.to_owned(),
            batch_size: 500,
            linger: Duration::ZERO,
            backoff: Backoff::default(),
            attempts: Some(16),
            max_blocked: 1000,
            dead_letter_topic: DEFAULT_DEAD_LETTER_TOPIC.to_owned(),
            on_unreadable: OnUnreadable::default(),
            drain_timeout: Duration::from_secs(30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_reported_at_once() {
        let config = ForwarderConfig::default()
            .topic("")
            .batch_size(0)
            .attempts(0)
            .max_blocked(0)
            .dead_letter_topic("");
        assert_eq!(config.validate().unwrap_err().problems().count(), 5);
    }

    #[test]
    fn a_source_hands_out_what_may_be_in_hand_and_no_more_over_all_scopes() {
        let config = ForwarderConfig::default().batch_size(10).max_blocked(7);
        assert_eq!((config.window().per_scope(), config.window().total()), (27, 27));
        assert_eq!((config.fenced_window().per_scope(), config.fenced_window().total()), (20, 20));
    }

    #[test]
    fn dead_letters_cannot_go_back_to_the_forwarder_topic() {
        let config = ForwarderConfig::default().topic("outbox").dead_letter_topic("outbox");
        assert_eq!(config.validate().unwrap_err().problems().count(), 1);
    }
}
