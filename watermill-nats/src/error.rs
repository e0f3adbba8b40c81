//! The only mapping from native errors to what they mean.

use std::{sync::atomic::Ordering, time::Duration};

use async_nats::{
    Client, Request, RequestError, RequestErrorKind,
    jetstream::{self, ErrorCode, context::PublishError, context::PublishErrorKind},
};
use watermill_core::{
    backend::{Failure, Trouble},
    error::{BoxError, find},
};

/// What an answer of JetStream means where its status does not tell: a store that is full or cannot be written says 503, and
/// that passes.
const CODES: &[(ErrorCode, Trouble)] = &[
    (ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM, Trouble::Message),
    (ErrorCode::STREAM_NOT_FOUND, Trouble::Topic),
    (ErrorCode::CONSUMER_NOT_FOUND, Trouble::Mismatch),
    // There is another stream or consumer of that name, or another stream that has the topic.
    (ErrorCode::STREAM_NAME_EXIST, Trouble::Mismatch),
    (ErrorCode::STREAM_SUBJECT_OVERLAP, Trouble::Mismatch),
    (ErrorCode::CONSUMER_NAME_EXIST, Trouble::Mismatch),
    (ErrorCode::JETSTREAM_NOT_ENABLED, Trouble::Unsupported),
    (ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT, Trouble::Unsupported),
    (ErrorCode::ACCOUNT_RESOURCES_EXCEEDED, Trouble::Unavailable),
];

/// What JetStream has answered.
pub(crate) fn answered(error: jetstream::Error) -> Failure {
    let by_code = CODES.iter().find(|(code, _)| *code == error.error_code());
    let trouble = match (by_code, error.code()) {
        (Some((_, trouble)), _) => *trouble,
        (None, 408) => Trouble::Timeout,
        (None, 500..) => Trouble::Unavailable,
        (None, _) => Trouble::Refused,
    };
    Failure::new(trouble, error)
}

/// What asking the server has met.
pub(crate) fn of_request(error: RequestError) -> Failure {
    let trouble = match error.kind() {
        RequestErrorKind::TimedOut => Trouble::Timeout,
        RequestErrorKind::InvalidSubject => Trouble::Topic,
        RequestErrorKind::MaxPayloadExceeded => Trouble::Message,
        // Nobody has subscribed to JetStream's requests: it is not enabled, or starts.
        RequestErrorKind::NoResponders | RequestErrorKind::Other => Trouble::Unavailable,
    };
    Failure::new(trouble, error)
}

/// What publishing a message has met. `missing` is what it means that no stream has its topic.
pub(crate) fn of_publish(error: PublishError, missing: Trouble) -> Failure {
    let trouble = match error.kind() {
        PublishErrorKind::StreamNotFound => missing,
        PublishErrorKind::TimedOut => Trouble::Timeout,
        PublishErrorKind::MaxPayloadExceeded => Trouble::Message,
        PublishErrorKind::BrokenPipe | PublishErrorKind::MaxAckPending => Trouble::Unavailable,
        PublishErrorKind::WrongLastMessageId | PublishErrorKind::WrongLastSequence => Trouble::Refused,
        PublishErrorKind::Other => match find::<jetstream::Error>(&error) {
            Some(answer) => answered(answer.clone()).trouble(),
            None => Trouble::Unavailable,
        },
    };
    Failure::new(trouble, error)
}

/// What sending has met: the client has ended, or its connection is not there.
pub(crate) fn of_sending(error: impl Into<BoxError>) -> Failure {
    Failure::new(Trouble::Unavailable, error)
}

/// Nothing is sent while the client is not connected: it would be sent much later, behind what was tried again.
pub(crate) fn connected(client: &Client) -> Result<(), Failure> {
    match client.connection_state() {
        async_nats::connection::State::Connected => Ok(()),
        _ => Err(Failure::because(
            Trouble::Unavailable,
            "there is no connection to the server just now; the client connects again by itself",
        )),
    }
}

/// How often the client has been connected: what it has sent without an answer is lost where that has changed.
pub(crate) fn connects(client: &Client) -> u64 {
    client.statistics().connects.load(Ordering::Relaxed)
}

/// Waits until the server has taken everything that was sent before, which it does in order: it says of a subject that nobody
/// listens to, an inbox of its own, that nobody does.
pub(crate) async fn taken(client: &Client, at_most: Duration) -> Result<(), Failure> {
    let request = Request::new().timeout(Some(at_most));
    match client.send_request(client.new_inbox(), request).await {
        Err(error) if error.kind() != RequestErrorKind::NoResponders => Err(of_request(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: usize, error: u64) -> jetstream::Error {
        let text = format!(r#"{{"code":{code},"err_code":{error},"description":"no"}}"#);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn an_answer_means_what_its_code_says_and_else_its_status() {
        assert_eq!(answered(answer(400, 10_054)).trouble(), Trouble::Message);
        assert_eq!(answered(answer(404, 10_059)).trouble(), Trouble::Topic);
        assert_eq!(answered(answer(503, 10_076)).trouble(), Trouble::Unsupported);
        assert_eq!(answered(answer(503, 10_077)).trouble(), Trouble::Unavailable);
        assert_eq!(answered(answer(500, 1)).trouble(), Trouble::Unavailable);
        assert_eq!(answered(answer(400, 1)).trouble(), Trouble::Refused);
    }

    #[test]
    fn what_publishing_meets_is_what_the_answer_in_it_means() {
        let refused = PublishError::with_source(PublishErrorKind::Other, answer(400, 10_054));
        assert_eq!(of_publish(refused, Trouble::Topic).trouble(), Trouble::Message);
        let missing = PublishError::new(PublishErrorKind::StreamNotFound);
        assert_eq!(of_publish(missing, Trouble::Unavailable).trouble(), Trouble::Unavailable);
    }
}
