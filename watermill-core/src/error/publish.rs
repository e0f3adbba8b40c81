//! [`PublishError`].

use std::{error::Error, fmt};

use super::BoxError;

/// Publishing failed, for all or for some of the messages of a call.
#[derive(Debug)]
pub struct PublishError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: PublishErrorKind,
    topic: String,
    not_accepted: NotAccepted,
    detail: Option<String>,
    source: Option<BoxError>,
}

/// What kept messages from being accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishErrorKind {
    /// The publisher was closed. The messages were not sent; trying again cannot help.
    Closed,
    /// The backend cannot hold a topic of this name, or the topic does not exist. Nothing was sent.
    Topic,
    /// A message cannot be represented in the backend (too large, not JSON, a key that is too long).
    /// Nothing was sent.
    Message,
    /// The backend could not be reached or refused for now. Trying again may help; a message that was
    /// sent before the failure may arrive twice then.
    Unavailable,
    /// The wait for the backend's word ended before it came: the messages may or may not arrive.
    Timeout,
    /// This backend, or this configuration of it, does not do what was asked.
    Unsupported,
    /// Another publisher of the same [name](crate::fenced::FencedPublisher) has begun to publish: this
    /// one cannot any more. Whether its last batch was published, the successor's checkpoint tells.
    Fenced,
    /// The backend refused for good, for want of permission for instance. Trying again cannot help
    /// until somebody has changed something.
    Refused,
}

impl PublishErrorKind {
    /// The kind in a word, for labels and attributes: `unavailable`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Topic => "topic",
            Self::Message => "message",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Unsupported => "unsupported",
            Self::Fenced => "fenced",
            Self::Refused => "refused",
        }
    }
}

/// Which messages of a call were not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotAccepted {
    /// None was.
    All,
    /// Those at these positions of the call, in ascending order; the others were.
    At(Vec<usize>),
}

impl PublishError {
    /// A failure of the whole call.
    pub fn new(kind: PublishErrorKind, topic: impl Into<String>) -> Self {
        let (topic, not_accepted) = (topic.into(), NotAccepted::All);
        Self(Box::new(Inner { kind, topic, not_accepted, detail: None, source: None }))
    }

    /// A publisher that was closed.
    pub fn closed(topic: impl Into<String>) -> Self {
        Self::new(PublishErrorKind::Closed, topic)
    }

    /// Says what exactly was wrong and what to do about it, as a lowercase fragment.
    #[must_use]
    pub fn because(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Keeps the native error, as [`source`](Error::source).
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Says which messages were not accepted, when it was not all of them.
    #[must_use]
    pub fn with_not_accepted(mut self, positions: Vec<usize>) -> Self {
        self.0.not_accepted = NotAccepted::At(positions);
        self
    }

    /// What kept the messages from being accepted.
    pub fn kind(&self) -> PublishErrorKind {
        self.0.kind
    }

    /// The topic published to.
    pub fn topic(&self) -> &str {
        &self.0.topic
    }

    /// Which messages of the call were not accepted.
    pub fn not_accepted(&self) -> &NotAccepted {
        &self.0.not_accepted
    }

    /// Whether publishing what was not accepted again may succeed.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind(), PublishErrorKind::Unavailable | PublishErrorKind::Timeout)
    }
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "publish to {:?}: ", self.0.topic)?;
        f.write_str(match self.0.kind {
            PublishErrorKind::Closed => "the publisher is closed",
            PublishErrorKind::Topic => "the topic cannot be used",
            PublishErrorKind::Message => "a message cannot be represented",
            PublishErrorKind::Unavailable => "the backend is unavailable, try again",
            PublishErrorKind::Timeout => "no word from the backend in time, it may arrive",
            PublishErrorKind::Unsupported => "the backend does not support this",
            PublishErrorKind::Fenced => "a successor has taken over",
            PublishErrorKind::Refused => "the backend refused",
        })?;
        if let NotAccepted::At(positions) = &self.0.not_accepted {
            write!(f, " ({} of the messages were not accepted)", positions.len())?;
        }
        match &self.0.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

impl Error for PublishError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
