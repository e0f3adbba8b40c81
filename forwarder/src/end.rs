//! [`End`]: why a forwarder does not go on.

use watermill_core::error::{PublishError, SubscribeError};

use crate::{ForwarderError, ForwarderReport};

/// Why a forwarder does not go on.
pub(crate) enum End {
    /// It was asked to stop.
    Shutdown,
    /// The subscription ended, after this error.
    Subscription(Option<SubscribeError>),
    /// Somebody has closed the publisher.
    PublisherClosed(PublishError),
    /// Another relay is at work, as the destination said or as its checkpoint shows.
    Fenced(Option<PublishError>),
    /// The source or the destination is not what this can work with.
    Unsuitable(String),
}

impl End {
    /// What a run returns, when its subscription has been closed.
    pub(crate) fn into_result(
        self,
        topic: &str,
        closed: Result<(), SubscribeError>,
        report: ForwarderReport,
    ) -> Result<ForwarderReport, ForwarderError> {
        let error = match (self, closed) {
            (Self::Subscription(last), _) => ForwarderError::ended(topic, last),
            (Self::PublisherClosed(error), _) => ForwarderError::publisher_closed(topic, error),
            (Self::Fenced(error), _) => ForwarderError::fenced(topic, error),
            (Self::Unsuitable(why), _) => ForwarderError::unsuitable(topic, why),
            (Self::Shutdown, Err(error)) => ForwarderError::close(topic, error),
            (Self::Shutdown, Ok(())) => return Ok(report),
        };
        Err(error.with_report(report))
    }
}
