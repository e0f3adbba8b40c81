//! [`Calls`]: the calls to a publisher that are in progress.

use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use super::EMPTY_TOPIC;
use crate::{
    Message,
    error::{PublishError, PublishErrorKind},
};

/// The calls to a publisher that are in progress, and whether it was closed. Clones are of the same publisher.
#[derive(Clone, Debug, Default)]
pub struct Calls(TaskTracker);

/// A call that is in progress until this is dropped.
#[derive(Debug)]
#[must_use = "dropped, the call is over"]
pub struct Call {
    _counted: TaskTrackerToken,
}

impl Calls {
    /// Begins a call to [`publish`](crate::Publisher::publish), with what every backend checks first: nothing is
    /// awaited, so calls keep their places. `None` when there is nothing to publish.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    pub fn begin(&self, topic: &str, messages: &[Message]) -> Result<Option<Call>, PublishError> {
        // Counted before it is asked whether the publisher was closed: either `close` sees this call, or this call
        // sees the close.
        let call = self.in_progress();
        self.check(topic)?;
        Ok((!messages.is_empty()).then_some(call))
    }

    /// Whether a call may be made at all.
    ///
    /// # Errors
    ///
    /// Of kind [`Closed`](PublishErrorKind::Closed) after [`close`](Self::close), and
    /// [`Topic`](PublishErrorKind::Topic) for a topic without a name.
    #[inline]
    pub fn check(&self, topic: &str) -> Result<(), PublishError> {
        if self.is_closed() {
            return Err(PublishError::closed(topic));
        }
        if topic.is_empty() {
            return Err(PublishError::new(PublishErrorKind::Topic, topic).because(EMPTY_TOPIC));
        }
        Ok(())
    }

    /// Counts a call that was not [begun](Self::begin), because few have to wait; then ask whether the publisher
    /// [is closed](Self::is_closed).
    pub fn in_progress(&self) -> Call {
        Call { _counted: self.0.token() }
    }

    /// Whether no call begins any more.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Begins no more, and waits for those in progress: each is to have an end.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the publisher is closed all the same.
    pub async fn close(&self) {
        self.0.close();
        self.0.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, poll};

    use super::*;

    #[tokio::test]
    async fn closing_waits_for_calls_in_progress_and_lets_none_begin() {
        let calls = Calls::default();
        let messages = [Message::new("x")];
        let call = calls.begin("t", &messages).unwrap().unwrap();
        let mut closing = Box::pin(calls.close());
        assert!(poll!(&mut closing).is_pending());
        let refused = calls.begin("t", &messages).unwrap_err();
        assert_eq!(refused.kind(), PublishErrorKind::Closed);
        assert!(poll!(&mut closing).is_pending());
        drop(call);
        closing.now_or_never().unwrap();
    }

    #[test]
    fn a_call_without_messages_is_over_and_one_without_a_topic_refused() {
        let calls = Calls::default();
        assert!(calls.begin("t", &[]).unwrap().is_none());
        assert_eq!(calls.begin("", &[]).unwrap_err().kind(), PublishErrorKind::Topic);
    }
}
