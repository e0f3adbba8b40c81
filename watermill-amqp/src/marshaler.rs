//! [`Message`] to and from the body and headers of AMQP, without I/O: as Go Watermill's library writes them.

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};
use watermill_core::{
    Message, Metadata,
    backend::{key_entry, key_of_entry, refuse_key_entries},
    error::BoxError,
    metadata_keys::MESSAGE_UUID,
};

/// The longest name of a header, of an exchange, a queue or a routing key, in bytes.
pub(crate) const NAME_MAX: usize = 255;
/// What a header frame has beside the table: the frame's own bytes, class, weight, size, flags, mode, length.
const FRAME_BESIDE_TABLE: usize = 8 + 14 + 1 + 4;
const PERSISTENT: u8 = 2;
/// How often a message was delivered before it went to wait for a delay.
const ATTEMPTS: &str = "x-watermill-attempts";

/// What goes beside the payload.
pub(crate) struct Record {
    pub(crate) properties: BasicProperties,
    /// How large a frame has to be for it.
    pub(crate) frame_bytes: usize,
}

/// The headers of a message, or why there are none.
pub(crate) fn write(message: &Message, persistent: bool, payload_bytes_max: usize) -> Result<Record, String> {
    let bytes = message.payload().len();
    if bytes > payload_bytes_max {
        return Err(format!(
            "the payload has {bytes} bytes, more than payload_bytes_max, {payload_bytes_max}"
        ));
    }
    refuse_key_entries(message.metadata())?;
    let mut headers = FieldTable::default();
    let mut frame_bytes = FRAME_BESIDE_TABLE;
    let mut insert = |name: &str, value: &str| {
        if name.len() > NAME_MAX {
            return Err(format!(
                "the name of a metadata entry has {} bytes, more than {NAME_MAX}",
                name.len()
            ));
        }
        frame_bytes += entry_bytes(name, value);
        headers.insert(ShortString::from(name), AMQPValue::LongString(value.into()));
        Ok(())
    };
    for (name, value) in message.metadata().iter() {
        if name == MESSAGE_UUID {
            return Err(format!("the metadata entry {MESSAGE_UUID:?} is reserved for the id"));
        }
        insert(name, value)?;
    }
    if let Some(key) = message.key() {
        let (name, value) = key_entry(key);
        insert(name, &value)?;
    }
    insert(MESSAGE_UUID, message.id().as_str())?;
    let mut properties = BasicProperties::default().with_headers(headers);
    if persistent {
        properties = properties.with_delivery_mode(PERSISTENT);
    }
    Ok(Record { properties, frame_bytes })
}

/// The message of a delivery. Headers that are no text are the broker's or another program's, and left out; without an
/// id it is empty, as in Go.
pub(crate) fn read(properties: &BasicProperties, payload: Vec<u8>) -> Result<Message, BoxError> {
    let (mut id, mut key, mut metadata) = ("", None, Metadata::default());
    for (name, value) in properties.headers().iter().flat_map(|headers| headers.inner()) {
        let name = name.as_str();
        let text = match value {
            AMQPValue::LongString(text) => str::from_utf8(text.as_bytes())
                .map_err(|error| format!("the header {name:?} is no UTF-8: {error}"))?,
            AMQPValue::ShortString(text) => text.as_str(),
            _ => continue,
        };
        if name == MESSAGE_UUID {
            id = text;
        } else if is_brokers(name) {
            continue;
        } else if let Some(found) = key_of_entry(name, text) {
            if key.replace(found?).is_some() {
                return Err("there are two keys in the headers".into());
            }
        } else {
            metadata.insert(name, text);
        }
    }
    let mut message = Message::with_id(id, payload);
    message.set_key(key);
    *message.metadata_mut() = metadata;
    Ok(message)
}

/// The bytes of a message's id, as they stand in the headers.
pub(crate) fn id_of(properties: &BasicProperties) -> &[u8] {
    match properties.headers().as_ref().and_then(|headers| headers.inner().get(MESSAGE_UUID)) {
        Some(AMQPValue::LongString(id)) => id.as_bytes(),
        _ => b"",
    }
}

/// Texts that RabbitMQ adds where it has dead-lettered a message, and what we add to one that waits for its delay.
fn is_brokers(name: &str) -> bool {
    name.starts_with("x-first-death-") || name.starts_with("x-last-death-") || name == ATTEMPTS
}

/// How often the server knows that a message was delivered before: by the count of a quorum queue, and by what a copy
/// says that has waited for its delay.
pub(crate) fn delivered_before(properties: &BasicProperties) -> u32 {
    let header = |name| properties.headers().as_ref().and_then(|headers| headers.inner().get(name));
    let returned = header("x-delivery-count").and_then(number).unwrap_or_default();
    let attempts = match header(ATTEMPTS) {
        Some(AMQPValue::LongString(text)) => {
            String::from_utf8_lossy(text.as_bytes()).parse().unwrap_or_default()
        }
        _ => 0,
    };
    u32::try_from(returned.saturating_add(attempts)).unwrap_or(u32::MAX)
}

/// Has a copy of a message tell how many attempts there were.
pub(crate) fn count_attempts(record: &mut Record, attempts: u32) {
    let mut headers = record.properties.headers().clone().unwrap_or_default();
    let attempts = attempts.to_string();
    record.frame_bytes += entry_bytes(ATTEMPTS, &attempts);
    headers.insert(ATTEMPTS.into(), AMQPValue::LongString(attempts.into()));
    record.properties = record.properties.clone().with_headers(headers);
}

/// What an entry of the table takes: the texts, their lengths and the kind of the value.
fn entry_bytes(name: &str, value: &str) -> usize {
    name.len() + value.len() + 6
}

fn number(value: &AMQPValue) -> Option<u64> {
    match *value {
        AMQPValue::ShortShortInt(n) => u64::try_from(n).ok(),
        AMQPValue::ShortShortUInt(n) => Some(n.into()),
        AMQPValue::ShortInt(n) => u64::try_from(n).ok(),
        AMQPValue::ShortUInt(n) => Some(n.into()),
        AMQPValue::LongInt(n) => u64::try_from(n).ok(),
        AMQPValue::LongUInt(n) => Some(n.into()),
        AMQPValue::LongLongInt(n) => u64::try_from(n).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use watermill_core::metadata_keys::KEY;

    use super::*;

    fn properties(headers: &[(&str, AMQPValue)]) -> BasicProperties {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert((*name).into(), value.clone());
        }
        BasicProperties::default().with_headers(table)
    }

    fn text(text: &str) -> AMQPValue {
        AMQPValue::LongString(text.into())
    }

    #[test]
    fn what_is_written_is_what_go_writes() {
        let message = Message::with_id("1", "x").with_metadata("a", "b").with_metadata("ü", "");
        let written = write(&message, true, 100).unwrap().properties;
        let expected =
            properties(&[("_watermill_message_uuid", text("1")), ("a", text("b")), ("ü", text(""))]);
        assert_eq!(written, expected.with_delivery_mode(2));
        assert_eq!(read(&written, b"x".to_vec()).unwrap(), message);
    }

    #[test]
    fn what_brokers_add_is_no_metadata_and_counts_deliveries() {
        let deaths = AMQPValue::FieldArray(vec![AMQPValue::FieldTable(FieldTable::default())].into());
        let given = properties(&[
            ("x-death", deaths),
            ("x-first-death-queue", text("q")),
            ("x-delivery-count", AMQPValue::LongLongInt(2)),
            ("x-watermill-attempts", text("3")),
            ("a", text("b")),
        ]);
        assert_eq!(read(&given, Vec::new()).unwrap(), Message::with_id("", "").with_metadata("a", "b"));
        assert_eq!(delivered_before(&given), 5);
        assert_eq!(delivered_before(&BasicProperties::default()), 0);
    }

    #[test]
    fn a_key_of_any_bytes_travels_in_the_headers() {
        for key in [&b""[..], b"k", b"\xff\0"] {
            let message = Message::with_id("1", "x").with_key(key);
            let written = write(&message, true, 100).unwrap().properties;
            assert_eq!(read(&written, b"x".to_vec()).unwrap(), message);
        }
    }

    /// As the client writes it, with the frame's own bytes around it.
    fn frame_bytes_of(record: &Record) -> usize {
        let header = amq_protocol::frame::AMQPContentHeader {
            class_id: 60,
            body_size: 1,
            properties: record.properties.clone(),
        };
        let frame = amq_protocol::frame::AMQPFrame::Header(1, header);
        let written =
            amq_protocol::frame::gen_frame(&frame)(amq_protocol::frame::WriteContext::from(Vec::new()));
        written.unwrap().into_inner().0.len()
    }

    #[test]
    fn the_frame_is_as_large_as_it_is_said_to_be_with_and_without_attempts() {
        let message = Message::with_id("1", "x").with_metadata("a", "b").with_key("k");
        let mut record = write(&message, true, 100).unwrap();
        assert_eq!(record.frame_bytes, frame_bytes_of(&record));
        count_attempts(&mut record, 12);
        assert_eq!(record.frame_bytes, frame_bytes_of(&record));
    }

    #[test]
    fn what_cannot_be_held_is_refused_with_the_reason() {
        let refused = |message: Message| write(&message, true, 4).err().unwrap();
        assert!(refused(Message::new("12345")).contains("5 bytes"));
        assert!(refused(Message::new("").with_metadata("n".repeat(256), "")).contains("256 bytes"));
        assert!(refused(Message::new("").with_metadata(KEY, "k")).contains("with_key"));
        assert!(refused(Message::new("").with_metadata(MESSAGE_UUID, "k")).contains("reserved"));
    }

    #[test]
    fn what_is_no_text_is_an_error_and_no_loss() {
        let given = properties(&[("a", AMQPValue::LongString(vec![0xff].into()))]);
        assert!(read(&given, Vec::new()).is_err());
        let given = properties(&[("_watermill_key", text("k")), ("_watermill_key_base64", text("AP8="))]);
        assert!(read(&given, Vec::new()).is_err());
    }
}
