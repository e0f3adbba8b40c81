//! What becomes of rejected messages, in both layouts. How outcomes are recorded is in `log/reader/record.rs` for
//! a log, where acks move a position, and in `queue/reader/record.rs`, where each is a change of its row.

use crate::dead_letter::DeadLetter;

/// A message that was rejected, or cannot be read.
#[derive(Debug)]
pub(crate) enum Rejected {
    /// It is moved to the dead-letter topic.
    Kept(DeadLetter),
    /// There is none: it is done with, and the log says so once that is recorded.
    Dropped(DeadLetter),
}

impl Rejected {
    /// A rejected message, where `dead_letters` says whether there is a topic for them.
    pub(crate) fn new(message: DeadLetter, dead_letters: bool) -> Self {
        if dead_letters { Self::Kept(message) } else { Self::Dropped(message) }
    }

    /// What is moved to the dead-letter topic.
    pub(crate) fn kept(&self) -> Option<&DeadLetter> {
        match self {
            Self::Kept(message) => Some(message),
            Self::Dropped(_) => None,
        }
    }

    /// Says of a message that is dropped that it is.
    pub(crate) fn log(&self, topic: &str) {
        if let Self::Dropped(DeadLetter { offset, message, reason, attempts }) = self {
            let message = message.id().as_str();
            tracing::error!(
                topic,
                offset,
                message,
                attempts,
                reason,
                "a message was rejected and is dropped"
            );
        }
    }
}
