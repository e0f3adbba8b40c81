//! [`SubscribeError`].

use std::{error::Error, fmt};

use super::{BoxError, ConfigError};

/// Subscribing failed, or a subscription met trouble while it ran.
#[derive(Debug)]
pub struct SubscribeError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: SubscribeErrorKind,
    topic: String,
    detail: Option<String>,
    source: Option<BoxError>,
}

/// What is wrong with a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscribeErrorKind {
    /// The subscriber was closed.
    Closed,
    /// The backend cannot hold a topic of this name, or the topic does not exist.
    Topic,
    /// The configuration cannot work; the source says what to change.
    Config,
    /// The backend could not be reached. A running subscription reconnects by itself; the error on
    /// its stream is for the log, and no message is lost.
    Unavailable,
    /// A record could not be read as a message. The backend has put it aside or holds at it, as its
    /// documentation says; it is not lost.
    Undecodable,
    /// Messages may have been missed, and nobody has them any more: of a subscription that is delivered to
    /// [at most once](crate::subscriber::DeliveryGuarantee::AtMostOnce), because its connection was lost or messages came faster
    /// than they were taken; or of a broadcast that was away for so long that its place was given up. It is said when messages
    /// come again. Whoever keeps something by what comes, a cache, drops all
    /// of it then; see [`OnMissed`](crate::decorator::OnMissed).
    Missed,
    /// This backend, or this configuration of it, does not do what was asked.
    Unsupported,
    /// The backend refused for good, for want of permission for instance.
    Refused,
}

impl SubscribeError {
    /// A failure concerning `topic`.
    pub fn new(kind: SubscribeErrorKind, topic: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, topic: topic.into(), detail: None, source: None }))
    }

    /// A subscriber that was closed.
    pub fn closed(topic: impl Into<String>) -> Self {
        Self::new(SubscribeErrorKind::Closed, topic)
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

    /// What is wrong.
    pub fn kind(&self) -> SubscribeErrorKind {
        self.0.kind
    }

    /// The topic subscribed to.
    pub fn topic(&self) -> &str {
        &self.0.topic
    }

    /// Whether subscribing again, or going on with the subscription, may succeed.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.kind(),
            SubscribeErrorKind::Unavailable | SubscribeErrorKind::Undecodable | SubscribeErrorKind::Missed
        )
    }
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "subscribe to {:?}: ", self.0.topic)?;
        f.write_str(match self.0.kind {
            SubscribeErrorKind::Closed => "the subscriber is closed",
            SubscribeErrorKind::Topic => "the topic cannot be used",
            SubscribeErrorKind::Config => "the configuration cannot work",
            SubscribeErrorKind::Unavailable => "the backend is unavailable",
            SubscribeErrorKind::Undecodable => "a record is not a message",
            SubscribeErrorKind::Missed => "messages may have been missed",
            SubscribeErrorKind::Unsupported => "the backend does not support this",
            SubscribeErrorKind::Refused => "the backend refused",
        })?;
        match &self.0.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

impl Error for SubscribeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// Of kind [`Config`](SubscribeErrorKind::Config), before there is a topic.
impl From<ConfigError> for SubscribeError {
    fn from(error: ConfigError) -> Self {
        Self::new(SubscribeErrorKind::Config, "").with_source(error)
    }
}
