//! [`RequestError`]: why a request has no reply, or not the one that was hoped for.

use std::{error::Error, fmt, time::Duration};

use serde::de::DeserializeOwned;

use crate::error::{BoxError, PublishError};

/// A request without the reply that was asked for.
#[derive(Debug)]
pub struct RequestError {
    kind: RequestErrorKind,
    detail: Option<String>,
    source: Option<BoxError>,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RequestErrorKind {
    /// It was not sent, as far as is known; the source says why.
    Send,
    /// No reply came in time. It may be handled all the same, and its reply is ignored then.
    Timeout,
    /// Its handler has failed: the source is a [`HandlerFailed`].
    Failed,
    /// A reply came that is not of the type that was asked for.
    Unreadable,
    /// More replies came than were taken: the rest is lost.
    Overflow,
    /// The inbox was closed.
    Closed,
}

impl RequestError {
    pub(super) fn new(kind: RequestErrorKind) -> Self {
        Self { kind, detail: None, source: None }
    }

    pub(super) fn send(source: impl Into<BoxError>) -> Self {
        Self::new(RequestErrorKind::Send).with_source(source)
    }

    pub(super) fn timeout(after: Duration) -> Self {
        Self { detail: Some(format!("{after:?}")), ..Self::new(RequestErrorKind::Timeout) }
    }

    pub(super) fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What became of the request.
    pub fn kind(&self) -> RequestErrorKind {
        self.kind
    }

    /// What its handler said, if that has failed.
    pub fn handler_failed(&self) -> Option<&HandlerFailed> {
        self.source.as_deref()?.downcast_ref()
    }

    /// Whether asking again may be answered: after a timeout, and when a publisher says so. Whether it may be handled twice
    /// is for the application to know.
    pub fn is_retryable(&self) -> bool {
        match self.kind {
            RequestErrorKind::Timeout => true,
            RequestErrorKind::Send => self
                .source
                .as_deref()
                .and_then(|source| crate::error::find::<PublishError>(source))
                .is_some_and(PublishError::is_retryable),
            _ => false,
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            RequestErrorKind::Send => "send the request",
            RequestErrorKind::Timeout => "get a reply in time",
            RequestErrorKind::Failed => "have the request handled",
            RequestErrorKind::Unreadable => "read the reply",
            RequestErrorKind::Overflow => "keep replies that nobody takes",
            RequestErrorKind::Closed => "get a reply: the inbox is closed",
        })?;
        match &self.detail {
            Some(detail) => write!(f, ": none came within {detail}"),
            None => Ok(()),
        }
    }
}

impl Error for RequestError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// What the handler of a request has failed with, as it was sent back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerFailed {
    pub(super) text: String,
    pub(super) details: Option<String>,
}

impl HandlerFailed {
    /// The text of its error.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its error, if the responder [sends](super::Responder::send_errors) those of this type, and it was one; else `None`.
    pub fn details<E: DeserializeOwned>(&self) -> Option<E> {
        serde_json::from_str(self.details.as_deref()?).ok()
    }
}

impl fmt::Display for HandlerFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for HandlerFailed {}
