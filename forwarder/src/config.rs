//! [`ForwarderConfig`]: what a forwarder does, as plain data.

use std::{num::NonZeroUsize, time::Duration};

use tokio::time::Instant;
use watermill_core::{Backoff, Window, error::ConfigError, subscriber::Ordering};

use crate::{DEFAULT_DEAD_LETTER_TOPIC, DEFAULT_TOPIC, DestinationFrom, KeyFrom};

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
    /// A [`FencedForwarder`](crate::FencedForwarder) that has a backlog before it makes one transaction of up to 16 batches, as
    /// long as that is no more than 2,000 messages and 16 MiB, or one message however large; as many again are sent while that is
    /// committed, as many are taken meanwhile, and up to twice as many may be published and not yet recorded by the source. Default: 500.
    pub batch_size: usize,
    /// How long to wait for a batch to fill before it is published. Default: not at all; what comes
    /// while a batch is on its way makes the next one.
    pub linger: Duration,
    /// The waits between attempts to publish to a destination that fails. Where its error says when to try again, as
    /// [`Delayed`](watermill_core::error::Delayed), it is waited for that, an hour at most. Default: [`Backoff`]'s, from
    /// 100 ms to 30 s.
    pub backoff: Backoff,
    /// How long a call to a destination may take. Then it is dropped, and counts as an attempt of which nobody
    /// knows how it ended. Keep it longer than what the publisher itself waits, or what it holds is sent
    /// twice. It is tried again with half as many messages; where fewer pass and as many have no answer again, no more
    /// are tried for ten times this long. Default: 150 s; Kafka's waits for 120 s.
    pub call_timeout: Duration,
    /// After how many attempts a message is dead-lettered that is refused for what it is, alone, while its
    /// destination takes others; `None` never gives one up. A destination that is away, slow or set up wrongly
    /// is waited for, however long it takes. Default: 5, about a second and a half with the default backoff.
    pub attempts: Option<u32>,
    /// The most messages held for destinations and keys that fail, are slow or paused. At the bound nothing
    /// more is taken from the source until some of them can go. A source without order gets back what
    /// exceeds half of it for one destination, and a quarter for one key of it; one with order cannot take back what
    /// others are behind: there [`shards`](Self::shards) divide what may be held, each has a bound of its own. Default: 10,000.
    pub max_blocked: usize,
    /// The topic for what cannot be forwarded: of the source's database, if it is one, or else of the
    /// destination's publisher or of the one for dead letters. A source that has a place for dead letters
    /// of its own uses that. Default: [`DEFAULT_DEAD_LETTER_TOPIC`].
    pub dead_letter_topic: String,
    /// Says where each message goes, where the topic has no envelopes but what is to be published, as it is. Default:
    /// none, messages are envelopes.
    pub destination_from: Option<DestinationFrom>,
    /// Derives the key of messages whose envelopes have none. Default: they have none then.
    pub key_from: Option<KeyFrom>,
    /// In how many shards a group reads the topic that has none yet: relays in several processes at once, each the messages of
    /// its keys. Default: none, one relay reads and the others stand by. See
    /// [Several active relays](crate#several-active-relays).
    pub shards: Option<u32>,
    /// Whether to wait for a source that is away at the start, however long it takes, and say why in the log.
    /// Default: false, the forwarder ends with an error.
    pub await_source: bool,
    /// What becomes of a message that is not an envelope. Default: dead-lettered.
    pub on_unreadable: OnUnreadable,
    /// How long a stop may take. What is in hand is published until a fifth of it is left, or a second; the
    /// rest of the messages goes back to the source, which has that time to record everything. Default: 30 s.
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

    /// Sets [`call_timeout`](Self::call_timeout).
    #[must_use]
    pub fn call_timeout(mut self, call_timeout: Duration) -> Self {
        self.call_timeout = call_timeout;
        self
    }

    /// Sets [`destination_from`](Self::destination_from).
    #[must_use]
    pub fn destination_from(mut self, destination_from: impl Into<Option<DestinationFrom>>) -> Self {
        self.destination_from = destination_from.into();
        self
    }

    /// Sets [`key_from`](Self::key_from).
    #[must_use]
    pub fn key_from(mut self, key_from: impl Into<Option<KeyFrom>>) -> Self {
        self.key_from = key_from.into();
        self
    }

    /// Sets [`shards`](Self::shards).
    #[must_use]
    pub fn shards(mut self, shards: impl Into<Option<u32>>) -> Self {
        self.shards = shards.into();
        self
    }

    /// Sets [`await_source`](Self::await_source).
    #[must_use]
    pub fn await_source(mut self, await_source: bool) -> Self {
        self.await_source = await_source;
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
            .unless(self.attempts != Some(0), "attempts is zero: use 1 to give up after the first refusal")
            .unless(
                self.shards.is_none_or(|shards| (1..=SHARDS_MAX).contains(&shards)),
                "shards: there can be 1 to 64",
            )
            .unless(!self.call_timeout.is_zero(), "call_timeout is zero: no call could be answered in time")
            .with(self.destination_from.as_ref().and_then(DestinationFrom::problem).map(str::to_owned))
            .with(self.key_from.as_ref().and_then(KeyFrom::problem).map(str::to_owned))
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

    /// How many messages one destination may have blocked, where the others can go back to the source.
    pub(crate) fn max_blocked_share(&self) -> usize {
        self.max_blocked.div_ceil(2)
    }

    /// The same of one key of it.
    pub(crate) fn max_blocked_key_share(&self) -> usize {
        self.max_blocked.div_ceil(4)
    }

    /// How many messages one transaction may have: a fixed price is paid for each, so that with a backlog it is made of several
    /// batches.
    pub(crate) fn transaction_size(&self) -> usize {
        self.batch_size.saturating_mul(TRANSACTION_BATCHES).min(TRANSACTION_MAX).max(self.batch_size)
    }

    /// Wide enough that the source never waits for messages which are blocked, whatever scopes these are of, and no
    /// wider than what may be in hand. A source with order reads on far behind a message that is blocked: it
    /// remembers of what is done there no more than where it was.
    pub(crate) fn window(&self, ordering: Ordering) -> Window {
        self.window_of(self.max_flowing(), ordering)
    }

    /// The same where one transaction is on its way, and the next is put together.
    pub(crate) fn transaction_window(&self, ordering: Ordering) -> Window {
        self.window_of(self.transaction_size().saturating_mul(2), ordering)
    }

    fn window_of(&self, flowing: usize, ordering: Ordering) -> Window {
        let in_hand = flowing.saturating_add(self.max_blocked);
        match ordering {
            Ordering::None => window(in_hand, in_hand),
            _ => window(in_hand.max(READ_AHEAD), in_hand),
        }
    }

    /// When a stop that begins now has to be through.
    pub(crate) fn stop_deadlines(&self) -> StopDeadlines {
        let for_closing = (self.drain_timeout / 5).min(Duration::from_secs(1));
        let closed = Instant::now() + self.drain_timeout;
        StopDeadlines { drained: closed - for_closing, closed }
    }
}

/// The most shards of a topic.
const SHARDS_MAX: u32 = 64;

/// How many batches a transaction may be made of, as long as it has no more than so many messages.
const TRANSACTION_BATCHES: usize = 16;
const TRANSACTION_MAX: usize = 2_000;

/// How far a source with order may read on behind the first message that is blocked, in messages.
const READ_AHEAD: usize = 100_000;

/// Until when a stop may publish, and until when it has to be over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StopDeadlines {
    pub(crate) drained: Instant,
    pub(crate) closed: Instant,
}

/// A scope may have all of it: what waits in the lanes here is kept in order by destination and key, not by scope.
fn window(per_scope: usize, total: usize) -> Window {
    let at_least_one = |count| NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN);
    Window::ordered(at_least_one(per_scope)).with_total(at_least_one(total))
}

impl Default for ForwarderConfig {
    fn default() -> Self {
        Self {
            topic: DEFAULT_TOPIC.to_owned(),
            batch_size: 500,
            linger: Duration::ZERO,
            backoff: Backoff::default(),
            call_timeout: Duration::from_secs(150),
            attempts: Some(5),
            max_blocked: 10_000,
            dead_letter_topic: DEFAULT_DEAD_LETTER_TOPIC.to_owned(),
            destination_from: None,
            key_from: None,
            shards: None,
            await_source: false,
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
            .shards(65)
            .call_timeout(Duration::ZERO)
            .key_from(KeyFrom::metadata(""))
            .destination_from(DestinationFrom::template(""))
            .dead_letter_topic("");
        assert_eq!(config.validate().unwrap_err().problems().count(), 9);
    }

    #[test]
    fn a_source_hands_out_what_may_be_in_hand_and_no_more_over_all_scopes() {
        let config = ForwarderConfig::default().batch_size(10).max_blocked(7);
        let unordered = config.window(Ordering::None);
        assert_eq!((unordered.per_scope(), unordered.total()), (27, 27));
        assert_eq!(config.window(Ordering::Total).total(), 27);
    }

    #[test]
    fn dead_letters_cannot_go_back_to_the_forwarder_topic() {
        let config = ForwarderConfig::default().topic("outbox").dead_letter_topic("outbox");
        assert_eq!(config.validate().unwrap_err().problems().count(), 1);
    }
}
