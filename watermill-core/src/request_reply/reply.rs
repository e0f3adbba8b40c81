//! What a reply says.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{HandlerFailed, RequestError, RequestErrorKind};
use crate::{Message, metadata_keys};

/// What a handler replies that has nothing to say but that it is done: `Json(NoResult {})`. The same as Go's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoResult {}

/// The reply, unless it says that the handler has failed.
pub(super) fn succeeded(message: Message) -> Result<Message, RequestError> {
    let metadata = message.metadata();
    if metadata.get(metadata_keys::REQUEST_REPLY_HAS_ERROR) != Some("1") {
        return Ok(message);
    }
    let text = |key| metadata.get(key).map(str::to_owned);
    let failed = HandlerFailed {
        text: text(metadata_keys::REQUEST_REPLY_ERROR).unwrap_or_default(),
        details: text(metadata_keys::REQUEST_REPLY_ERROR_DETAILS),
    };
    Err(RequestError::new(RequestErrorKind::Failed).with_source(failed))
}

/// What its payload says.
pub(super) fn value_of<R: DeserializeOwned>(message: &Message) -> Result<R, RequestError> {
    let value = message.decode_json();
    value.map_err(|error| RequestError::new(RequestErrorKind::Unreadable).with_source(error))
}
