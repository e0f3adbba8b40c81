//! [`BusError`] and [`ReadError`]: why a command or an event was not sent, or not read.

use std::{error::Error, fmt};

use crate::error::{BoxError, Permanent, PublishError};

/// A command or an event that was not sent.
///
/// As the error of a handler it says by itself whether the handler's message is tried again: what a publisher says
/// speaks for itself, and everything else does not get better.
#[derive(Debug)]
pub struct BusError {
    kind: BusErrorKind,
    name: String,
    source: Option<BoxError>,
}

/// What kept a command or an event from being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BusErrorKind {
    /// No topic is known for its name. Nothing was sent: add it to the [`Topics`](super::Topics).
    NoTopic,
    /// Its value cannot be written as a payload. Nothing was sent.
    Encode,
    /// A hook has refused it. Nothing was sent.
    Hook,
    /// The publisher did not accept it: the source is its [`PublishError`], which says whether any of the call was
    /// accepted, and whether trying again may help.
    Publish,
}

impl BusError {
    pub(super) fn no_topic(name: &str) -> Self {
        let reason = format!("find a topic for {name:?}: none is listed, and no rule gives it one");
        Self::new(BusErrorKind::NoTopic, name, Permanent::new(reason))
    }

    pub(super) fn encode(name: &str, source: BoxError) -> Self {
        Self::new(BusErrorKind::Encode, name, Permanent::new(source))
    }

    pub(super) fn hook(name: &str, source: BoxError) -> Self {
        Self::new(BusErrorKind::Hook, name, source)
    }

    pub(super) fn publish(name: &str, source: PublishError) -> Self {
        Self::new(BusErrorKind::Publish, name, source)
    }

    fn new(kind: BusErrorKind, name: &str, source: impl Into<BoxError>) -> Self {
        Self { kind, name: name.to_owned(), source: Some(source.into()) }
    }

    /// What kept it from being sent.
    pub fn kind(&self) -> BusErrorKind {
        self.kind
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the publisher said, if it was the publisher.
    pub fn publish_error(&self) -> Option<&PublishError> {
        self.source.as_deref()?.downcast_ref()
    }

    /// Whether sending it again may succeed.
    pub fn is_retryable(&self) -> bool {
        self.publish_error().is_some_and(PublishError::is_retryable)
    }
}

impl fmt::Display for BusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "send {:?}", self.name)?;
        match self.kind {
            BusErrorKind::Encode => f.write_str(": its value cannot be written"),
            BusErrorKind::Hook => f.write_str(": a hook refused it"),
            BusErrorKind::NoTopic | BusErrorKind::Publish => Ok(()),
        }
    }
}

impl Error for BusError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// A message that a handler of commands or events could not read. It fails with this error, marked
/// [`Permanent`]: its handler's policy decides what becomes of it.
#[derive(Debug)]
pub struct ReadError {
    kind: ReadErrorKind,
    text: String,
    source: Option<BoxError>,
}

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReadErrorKind {
    /// It has no name, or one that nobody here handles: see [`UnknownName`](super::UnknownName).
    Name,
    /// Its content type is not the codec's.
    ContentType,
    /// It is of a version that nobody brings up to the type's, or of one newer than that.
    Version,
    /// Its payload is not what its name says.
    Payload,
}

impl ReadError {
    pub(super) fn new(kind: ReadErrorKind, text: String) -> Self {
        Self { kind, text, source: None }
    }

    pub(super) fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What is wrong with the message.
    pub fn kind(&self) -> ReadErrorKind {
        self.kind
    }

    /// As the error of a handler.
    pub(super) fn permanent(self) -> BoxError {
        Permanent::new(self).into()
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for ReadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
