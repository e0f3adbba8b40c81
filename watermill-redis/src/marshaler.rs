//! [`Message`] to and from the fields of an entry, without I/O: as Go Watermill's library writes them.

use bytes::Bytes;
use watermill_core::{
    Message, Metadata,
    backend::{key_entry, refuse_key_entries, take_key},
    error::BoxError,
    metadata_keys::MESSAGE_UUID,
};

pub(crate) const METADATA: &str = "metadata";
pub(crate) const PAYLOAD: &str = "payload";

/// The fields of an entry.
pub(crate) type Fields = [(&'static str, Bytes); 3];

/// The fields of a message, or why there are none.
pub(crate) fn write(message: Message, value_bytes_max: usize) -> Result<Fields, String> {
    let (id, key, mut metadata, payload) = message.into_parts();
    refuse_key_entries(&metadata)?;
    if let Some(key) = &key {
        let (name, value) = key_entry(key);
        metadata.insert(name, value);
    }
    // Nothing, and not the empty map, as Go writes it.
    let packed = match metadata.is_empty() {
        true => Vec::new(),
        false => rmp_serde::to_vec(&metadata).map_err(|error| error.to_string())?,
    };
    let id = Bytes::copy_from_slice(id.as_str().as_bytes());
    let fields = [(MESSAGE_UUID, id), (METADATA, packed.into()), (PAYLOAD, payload)];
    match fields.iter().find(|(_, value)| value.len() > value_bytes_max) {
        Some((name, value)) => {
            Err(format!("{name} has {} bytes, more than value_bytes_max, {value_bytes_max}", value.len()))
        }
        None => Ok(fields),
    }
}

/// The message of an entry: names and values in turn. Fields that are missing are empty, others ignored.
pub(crate) fn read(fields: Vec<Bytes>) -> Result<Message, BoxError> {
    let [mut id, mut packed, mut payload] = [const { None }; 3];
    for field in fields.chunks_exact(2) {
        let place = match &*field[0] {
            name if name == MESSAGE_UUID.as_bytes() => &mut id,
            name if name == METADATA.as_bytes() => &mut packed,
            name if name == PAYLOAD.as_bytes() => &mut payload,
            _ => continue,
        };
        *place = Some(field[1].clone());
    }
    let payload = payload.ok_or("it has no field `payload`: another program wrote it")?;
    let mut message = Message::with_id(str::from_utf8(&id.unwrap_or_default())?, payload);
    if let Some(packed) = packed.filter(|packed| !packed.is_empty()) {
        let mut metadata: Metadata = rmp_serde::from_slice(&packed)?;
        message.set_key(take_key(&mut metadata)?);
        *message.metadata_mut() = metadata;
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use watermill_core::metadata_keys::KEY;

    use super::*;

    fn entry(metadata: &'static [u8]) -> Vec<Bytes> {
        let fields: [&'static [u8]; 6] =
            [b"_watermill_message_uuid", b"1", b"metadata", metadata, b"payload", b"\0\xff"];
        fields.map(Bytes::from_static).to_vec()
    }

    #[test]
    fn what_is_written_is_what_go_writes() {
        let message = Message::with_id("1", &b"\0\xff"[..]).with_metadata("a", "b").with_metadata("ü", "");
        let fields = write(message.clone(), 100).unwrap();
        let packed: &[u8] = b"\x82\xa1a\xa1b\xa2\xc3\xbc\xa0";
        assert_eq!(
            fields.each_ref().map(|(name, value)| (*name, &**value)),
            [("_watermill_message_uuid", &b"1"[..]), ("metadata", packed), ("payload", &b"\0\xff"[..]),]
        );
        assert_eq!(read(entry(b"\x82\xa1a\xa1b\xa2\xc3\xbc\xa0")).unwrap(), message);
        let bare = write(Message::with_id("", ""), 100).unwrap();
        assert!(bare.iter().all(|(_, value)| value.is_empty()));
    }

    #[test]
    fn what_go_writes_in_other_ways_is_read() {
        let message = Message::with_id("1", &b"\0\xff"[..]);
        for none in [&b""[..], b"\x80", b"\xc0"] {
            assert_eq!(read(entry(none)).unwrap(), message);
        }
        let wide = read(entry(b"\xde\0\x01\xd9\x01a\xda\0\x01b")).unwrap();
        assert_eq!(wide, message.with_metadata("a", "b"));
    }

    #[test]
    fn a_key_of_any_bytes_travels_in_the_metadata() {
        for key in [&b""[..], b"k", b"\xff\0"] {
            let message = Message::with_id("1", "x").with_key(key);
            let fields = write(message.clone(), 100).unwrap();
            let flat = fields.into_iter().flat_map(|(name, value)| [Bytes::from(name), value]).collect();
            assert_eq!(read(flat).unwrap(), message);
        }
    }

    #[test]
    fn what_cannot_be_held_is_refused_with_the_reason() {
        let large = write(Message::with_id("1", "12345"), 4).unwrap_err();
        assert!(large.contains("payload has 5 bytes"), "{large}");
        let reserved = write(Message::new("").with_metadata(KEY, "k"), 4).unwrap_err();
        assert!(reserved.contains("with_key"), "{reserved}");
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        for metadata in [&b"\x81"[..], b"\x81\xa1a", b"\x81\xa1a\x01", b"\xa1a", b"\xdf\xff\xff\xff\xff"] {
            assert!(read(entry(metadata)).is_err(), "{metadata:?}");
        }
        assert!(read(vec![Bytes::from("a"), Bytes::from("b")]).is_err());
        let not_base64 = b"\x81\xb5_watermill_key_base64\xa1!";
        assert!(read(entry(not_base64)).is_err());
    }
}
