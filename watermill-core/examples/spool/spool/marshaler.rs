//! A message as the bytes of a file: a line of JSON, and the payload behind it.

use serde::{Deserialize, Serialize};
use watermill_core::{Message, error::BoxError};

#[derive(Serialize, Deserialize)]
struct Head {
    id: String,
    key: Option<Vec<u8>>,
    metadata: Vec<(String, String)>,
}

pub(super) fn encode(message: &Message) -> Vec<u8> {
    let metadata =
        message.metadata().iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let key = message.key().map(|key| key.to_vec());
    let head = Head { id: message.id().as_str().to_owned(), key, metadata };
    // Text and numbers always serialise.
    let mut bytes = serde_json::to_vec(&head).unwrap_or_default();
    bytes.push(b'\n');
    bytes.extend_from_slice(message.payload());
    bytes
}

pub(super) fn decode(bytes: &[u8]) -> Result<Message, BoxError> {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or("the file has no first line")?;
    let (head, payload) = (&bytes[..end], &bytes[end + 1..]);
    let Head { id, key, metadata } = serde_json::from_slice(head)?;
    let mut message = Message::with_id(id, payload.to_vec());
    if let Some(key) = key {
        message = message.with_key(key);
    }
    for (name, value) in metadata {
        message.metadata_mut().insert(name, value);
    }
    Ok(message)
}
