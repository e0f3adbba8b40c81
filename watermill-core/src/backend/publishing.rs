//! What publishers of every backend check.

use crate::{
    Message,
    error::{PublishError, PublishErrorKind},
};

/// Refuses a call of which any message asks for a delay, for a publisher that keeps none: to be asked before
/// anything is sent (obligation 10 of [`Publisher`](crate::Publisher)).
///
/// # Errors
///
/// Of kind [`Unsupported`](PublishErrorKind::Unsupported), for the whole call.
#[inline]
pub fn refuse_delays(topic: &str, messages: &[Message]) -> Result<(), PublishError> {
    match messages.iter().find(|message| message.asks_for_delay()) {
        Some(message) => Err(cannot_keep_delay(topic, message)),
        None => Ok(()),
    }
}

#[cold]
fn cannot_keep_delay(topic: &str, message: &Message) -> PublishError {
    let id = message.id().as_str();
    PublishError::new(PublishErrorKind::Unsupported, topic)
        .because(format!("message {id:?} asks for a delay, which this topic cannot keep"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_delay_is_refused_before_anything_is_sent() {
        let delayed = Message::new("x").delay_for(Duration::from_secs(1));
        let error = refuse_delays("t", &[Message::new("x"), delayed]).unwrap_err();
        assert_eq!(error.kind(), PublishErrorKind::Unsupported);
        assert!(refuse_delays("t", &[Message::new("x")]).is_ok());
    }
}
