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

/// What is sent of each message of a call, so that one that cannot be sent is found before anything is (obligation 5 of
/// [`Publisher`](crate::Publisher)). `record` says why there is none, as a lowercase fragment.
///
/// # Errors
///
/// Of kind [`Message`](PublishErrorKind::Message), for the whole call, which names the place of the message.
pub fn records<R>(
    topic: &str,
    messages: Vec<Message>,
    mut record: impl FnMut(Message) -> Result<R, String>,
) -> Result<Vec<R>, PublishError> {
    let record = |(at, message)| {
        record(message).map_err(|why| {
            PublishError::new(PublishErrorKind::Message, topic).because(format!("message {at}: {why}"))
        })
    };
    messages.into_iter().enumerate().map(record).collect()
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
    fn a_message_of_which_nothing_can_be_sent_fails_the_call_and_is_named() {
        let messages = || vec![Message::with_id("0", "x"), Message::with_id("1", "y")];
        let payloads = records("t", messages(), |message| Ok(message.into_parts().3)).unwrap();
        assert_eq!(payloads, ["x", "y"]);
        let refuse = |message: Message| if message.id() == "1" { Err("too odd".to_owned()) } else { Ok(()) };
        let error = records("t", messages(), refuse).unwrap_err();
        assert_eq!(error.kind(), PublishErrorKind::Message);
        assert!(error.to_string().contains("message 1: too odd"), "{error}");
    }

    #[test]
    fn a_delay_is_refused_before_anything_is_sent() {
        let delayed = Message::new("x").delay_for(Duration::from_secs(1));
        let error = refuse_delays("t", &[Message::new("x"), delayed]).unwrap_err();
        assert_eq!(error.kind(), PublishErrorKind::Unsupported);
        assert!(refuse_delays("t", &[Message::new("x")]).is_ok());
    }
}
