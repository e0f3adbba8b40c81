//! [`Message`] to and from Pub/Sub's, without I/O: Go Watermill's attributes.
//!
//! The data are the payload, and the attributes are the id under `_watermill_message_uuid` and one for each
//! metadata entry. The key is the ordering key, as far as that can hold it.

use std::{
    borrow::Cow,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use google_cloud_pubsub::model::Message as Native;
use time::OffsetDateTime;
use watermill_core::{
    Message, MessageId, Metadata,
    backend::{key_entry, key_of_entry},
    metadata_keys::{KEY, KEY_BASE64, MESSAGE_UUID},
};

use crate::{OrderingKeys, limits};

/// Where Go's reader puts the service's id of a message.
const GO_MESSAGE_ID: &str = "_watermill_message_google_message_id";

/// Where Go's reader puts the time of publishing.
const GO_PUBLISH_TIME: &str = "publishTime";

/// Begins the ordering key of a message whose key is empty or no text.
const ENCODED: &str = "_watermill_key:";

/// A message that Pub/Sub cannot hold, and why.
pub(crate) type Unrepresentable = String;

/// As Pub/Sub takes it.
pub(crate) fn write(
    topic: &str,
    message: &Message,
    ordering_keys: &OrderingKeys,
) -> Result<Native, Unrepresentable> {
    let ordering_key = match ordering_keys {
        OrderingKeys::MessageKey => message.key().map(|key| as_ordering_key(key)),
        OrderingKeys::By(choose) => choose(topic, message).map(Cow::Owned),
        OrderingKeys::None => None,
    }
    .unwrap_or_default();
    let mut attributes = Vec::with_capacity(message.metadata().len() + 2);
    attributes.push((MESSAGE_UUID, Cow::Borrowed(message.id().as_str())));
    for (name, value) in message.metadata().iter() {
        if [MESSAGE_UUID, KEY, KEY_BASE64].contains(&name) {
            return Err(format!("the metadata has an entry {name:?}, which is where the id or the key goes"));
        }
        attributes.push((name, Cow::Borrowed(value)));
    }
    if let Some(key) = message.key().filter(|key| key.is_empty() || **key != *ordering_key.as_bytes()) {
        attributes.push(key_entry(key));
    }
    let native = Native::new()
        .set_data(message.payload().clone())
        .set_attributes(attributes.into_iter().map(|(name, value)| (name, value.into_owned())))
        .set_ordering_key(ordering_key);
    limits::check(&native).map_err(|limit| format!("message {:?}: {limit}", message.id()))?;
    Ok(native)
}

/// What any writer may have written: no message is ever undecodable. Metadata are in the order of their
/// names, for Pub/Sub keeps none.
pub(crate) fn read(native: &mut Native, as_go: bool) -> Message {
    let mut attributes: Vec<_> = std::mem::take(&mut native.attributes).into_iter().collect();
    attributes.sort_unstable();
    let mut id = MessageId::default();
    let mut key = (!native.ordering_key.is_empty()).then(|| Bytes::from(native.ordering_key.clone()));
    let mut metadata = Metadata::new();
    for (name, value) in attributes {
        match name.as_str() {
            MESSAGE_UUID => id = MessageId::from(value),
            _ => match key_of_entry(&name, &value) {
                Some(Ok(found)) => key = Some(found),
                // What is no base64 is nobody's key.
                Some(Err(_)) | None => drop(metadata.insert(name, value)),
            },
        }
    }
    if as_go {
        metadata.insert(GO_MESSAGE_ID, native.message_id.clone());
        if let Some(time) = published_at(native) {
            metadata.insert(GO_PUBLISH_TIME, go_time(time));
        }
    }
    let mut message = Message::with_id(id, std::mem::take(&mut native.data));
    message.set_key(key);
    if !metadata.is_empty() {
        *message.metadata_mut() = metadata;
    }
    message
}

/// When the service took it.
pub(crate) fn published_at(native: &Native) -> Option<SystemTime> {
    let time = native.publish_time?;
    let seconds = time.seconds().try_into().ok()?;
    UNIX_EPOCH.checked_add(Duration::new(seconds, time.nanos().try_into().ok()?))
}

/// The key itself where it is text; an ordering key that is its own where it is not.
fn as_ordering_key(key: &[u8]) -> Cow<'_, str> {
    match str::from_utf8(key) {
        Ok(text) if !text.is_empty() => Cow::Borrowed(text),
        _ => Cow::Owned(format!("{ENCODED}{}", STANDARD.encode(key))),
    }
}

/// As Go prints a time: `2026-11-27 00:05:12.345 +0000 UTC`, without zeros at the end of the fraction.
fn go_time(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    let mut fraction = format!(".{:09}", time.nanosecond());
    fraction.truncate(fraction.trim_end_matches('0').trim_end_matches('.').len());
    let (hour, minute, second) = time.to_hms();
    format!("{} {hour:02}:{minute:02}:{second:02}{fraction} +0000 UTC", time.date())
}

#[cfg(test)]
mod tests;
