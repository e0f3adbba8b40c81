//! [`ForwarderError`].

use std::{error::Error, fmt};

use watermill_core::error::{BoxError, PublishError, SubscribeError};

use crate::ForwarderReport;

/// A forwarder could not start, or could not go on.
#[derive(Debug)]
pub struct ForwarderError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ForwarderErrorKind,
    topic: String,
    detail: Option<String>,
    source: Option<BoxError>,
    report: ForwarderReport,
}

/// What kept a forwarder from its work. No message is lost: what was not forwarded comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForwarderErrorKind {
    /// The source or the destination is not what a forwarder can work with, as the text says.
    Unsuitable,
    /// The forwarder topic could not be subscribed to.
    Subscribe,
    /// The subscription ended by itself; the source, if there is one, is the last error on it.
    Ended,
    /// The destination publisher was closed while there was something to publish.
    PublisherClosed,
    /// Another relay has taken over. Start this one again to stand by.
    Fenced,
    /// The subscription could not record everything at the end: messages that were forwarded may be
    /// forwarded again.
    Close,
}

impl ForwarderError {
    fn new(kind: ForwarderErrorKind, topic: &str, source: Option<BoxError>) -> Self {
        let report = ForwarderReport::default();
        Self(Box::new(Inner { kind, topic: topic.to_owned(), detail: None, source, report }))
    }

    pub(crate) fn unsuitable(topic: &str, why: String) -> Self {
        let mut error = Self::new(ForwarderErrorKind::Unsuitable, topic, None);
        error.0.detail = Some(why);
        error
    }

    pub(crate) fn subscribe(topic: &str, source: SubscribeError) -> Self {
        Self::new(ForwarderErrorKind::Subscribe, topic, Some(source.into()))
    }

    pub(crate) fn ended(topic: &str, last: Option<SubscribeError>) -> Self {
        Self::new(ForwarderErrorKind::Ended, topic, last.map(Into::into))
    }

    pub(crate) fn publisher_closed(topic: &str, source: PublishError) -> Self {
        Self::new(ForwarderErrorKind::PublisherClosed, topic, Some(source.into()))
    }

    pub(crate) fn fenced(topic: &str, source: Option<PublishError>) -> Self {
        Self::new(ForwarderErrorKind::Fenced, topic, source.map(Into::into))
    }

    pub(crate) fn close(topic: &str, source: SubscribeError) -> Self {
        Self::new(ForwarderErrorKind::Close, topic, Some(source.into()))
    }

    pub(crate) fn with_report(mut self, report: ForwarderReport) -> Self {
        self.0.report = report;
        self
    }

    /// What kept the forwarder from its work.
    pub fn kind(&self) -> ForwarderErrorKind {
        self.0.kind
    }

    /// The forwarder topic.
    pub fn topic(&self) -> &str {
        &self.0.topic
    }

    /// What it did until then.
    pub fn report(&self) -> &ForwarderReport {
        &self.0.report
    }

    /// Whether starting it again may help without a change to the program or its configuration.
    pub fn is_retryable(&self) -> bool {
        match self.kind() {
            ForwarderErrorKind::Unsuitable | ForwarderErrorKind::PublisherClosed => false,
            ForwarderErrorKind::Subscribe | ForwarderErrorKind::Ended => {
                let cause = self.source().and_then(|source| source.downcast_ref::<SubscribeError>());
                cause.is_none_or(SubscribeError::is_retryable)
            }
            ForwarderErrorKind::Fenced | ForwarderErrorKind::Close => true,
        }
    }
}

impl fmt::Display for ForwarderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "forward from {:?}: ", self.0.topic)?;
        f.write_str(match self.0.kind {
            ForwarderErrorKind::Unsuitable => "it cannot work",
            ForwarderErrorKind::Subscribe => "the topic could not be subscribed to",
            ForwarderErrorKind::Ended => "the subscription ended by itself",
            ForwarderErrorKind::PublisherClosed => "the destination publisher was closed",
            ForwarderErrorKind::Fenced => "another relay has taken over",
            ForwarderErrorKind::Close => "not everything was recorded, some messages may be forwarded again",
        })?;
        match &self.0.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

impl Error for ForwarderError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
