//! [`MemoryConfig`]: the limits and habits of a broker.

use std::{num::NonZeroUsize, time::Duration};

use crate::error::ConfigError;

/// How a [`MemoryBroker`](super::MemoryBroker) behaves. Plain data, checked by
/// [`validate`](Self::validate) when the broker is made.
///
/// ```
/// use std::{num::NonZeroUsize, time::Duration};
/// use watermill_core::memory::{History, MemoryBroker, MemoryConfig};
///
/// let config = MemoryConfig::default()
///     .capacity(100)
///     .history(History::Last(NonZeroUsize::new(10).unwrap()))
///     .publish_waits_for_ack(Some(Duration::from_secs(5)));
/// let broker = MemoryBroker::with_config(config)?;
/// # Ok::<_, watermill_core::error::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryConfig {
    /// How many messages one group of one topic holds, waiting and outstanding together. At the
    /// bound `publish` waits for room. Default: 1024.
    pub capacity: usize,
    /// What a group that did not exist yet receives of what was published before it. Default:
    /// nothing.
    pub history: History,
    /// How long `publish` waits for every group that got the messages to ack or reject them.
    /// `None` does not wait. When the time is over the call fails with
    /// [`PublishErrorKind::Timeout`](crate::error::PublishErrorKind::Timeout), and the messages stay
    /// accepted. A call made inside a handler does not wait, because it may be waiting for itself.
    /// Default: `None`.
    pub publish_waits_for_ack: Option<Duration>,
    /// Whether the extensions of a message travel with it to its consumers. Default: no, as with a
    /// backend that has a wire.
    pub preserve_extensions: bool,
}

/// What a new group receives of what was published before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum History {
    /// Nothing. Messages of a topic without groups are discarded.
    #[default]
    None,
    /// The last so many messages of the topic; at most [`MemoryConfig::capacity`].
    Last(NonZeroUsize),
    /// Everything. Every message stays in memory for as long as the broker does, so this is for
    /// tests and for topics that end. A group that begins with more than
    /// [`MemoryConfig::capacity`] makes publishers wait until it has caught up.
    All,
}

impl MemoryConfig {
    /// Sets [`capacity`](Self::capacity), in messages.
    #[must_use]
    pub const fn capacity(mut self, messages: usize) -> Self {
        self.capacity = messages;
        self
    }

    /// Sets [`history`](Self::history).
    #[must_use]
    pub const fn history(mut self, history: History) -> Self {
        self.history = history;
        self
    }

    /// Sets [`publish_waits_for_ack`](Self::publish_waits_for_ack).
    #[must_use]
    pub const fn publish_waits_for_ack(mut self, at_most: Option<Duration>) -> Self {
        self.publish_waits_for_ack = at_most;
        self
    }

    /// Sets [`preserve_extensions`](Self::preserve_extensions).
    #[must_use]
    pub const fn preserve_extensions(mut self, preserve: bool) -> Self {
        self.preserve_extensions = preserve;
        self
    }

    /// Checks the values against each other.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names every problem, not only the first.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let (capacity, history) = (self.capacity, self.history);
        let fits = !matches!(history, History::Last(last) if last.get() > capacity);
        let kept = history.limit();
        ConfigError::check("configure the memory backend")
            .unless(capacity > 0, "capacity is 0, so nothing could ever be published")
            .unless(
                fits,
                format!("history keeps {kept} messages for a new group, which holds {capacity} (capacity)"),
            )
            .unless(
                self.publish_waits_for_ack != Some(Duration::ZERO),
                "publish_waits_for_ack is 0; use None for not waiting",
            )
            .finish()
    }
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            capacity: 1024,
            history: History::None,
            publish_waits_for_ack: None,
            preserve_extensions: false,
        }
    }
}

impl History {
    /// How many messages are kept.
    pub(super) fn limit(self) -> usize {
        match self {
            Self::None => 0,
            Self::Last(last) => last.get(),
            Self::All => usize::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid() {
        assert_eq!(MemoryConfig::default().validate(), Ok(()));
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let error = MemoryConfig::default()
            .capacity(0)
            .history(History::Last(NonZeroUsize::MIN))
            .publish_waits_for_ack(Some(Duration::ZERO))
            .validate()
            .unwrap_err();
        let problems: Vec<_> = error.problems().collect();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[0].contains("capacity"));
        assert!(problems[1].contains("history"));
        assert!(problems[2].contains("publish_waits_for_ack"));
        assert!(error.to_string().starts_with("configure the memory backend: capacity"));
    }
}
