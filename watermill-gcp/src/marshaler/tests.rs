//! What is written, and what Go's and other writers write.

use super::*;

const BY_KEY: OrderingKeys = OrderingKeys::MessageKey;

fn attributes(native: &Native) -> Vec<(&str, &str)> {
    let mut all: Vec<_> = native.attributes.iter().map(|(name, value)| (&**name, &**value)).collect();
    all.sort_unstable();
    all
}

#[test]
fn the_id_and_the_metadata_are_attributes_and_the_key_is_the_ordering_key() {
    let message = Message::with_id("id", "payload")
        .with_key("customer-7")
        .with_metadata("b", "")
        .with_metadata("a", "ü");
    let native = write("t", &message, &BY_KEY).unwrap();
    assert_eq!(native.data, "payload");
    assert_eq!(native.ordering_key, "customer-7");
    assert_eq!(attributes(&native), [("_watermill_message_uuid", "id"), ("a", "ü"), ("b", "")]);
}

#[test]
fn what_is_written_is_read_again() {
    let keys = [None, Some(&b"key"[..]), Some(b""), Some(&[0xff, 0, 0xfe]), Some("größe".as_bytes())];
    let choices = [BY_KEY, OrderingKeys::None, OrderingKeys::by(|_, _| Some("lane".to_owned()))];
    for key in keys {
        for (at, choice) in choices.iter().enumerate() {
            let mut message = Message::with_id("", "x").with_metadata("name", "value");
            message.set_key(key.map(Bytes::copy_from_slice));
            let mut native = write("t", &message, choice).unwrap();
            // A message without a key takes the ordering key that was chosen for it.
            let expected = if at == 2 && key.is_none() { message.with_key("lane") } else { message };
            assert_eq!(read(&mut native, false), expected, "{key:?} {choice:?}");
        }
    }
}

#[test]
fn a_key_that_no_ordering_key_can_hold_is_ordered_all_the_same() {
    let ordering_key =
        |key: &'static [u8]| write("t", &Message::new("x").with_key(key), &BY_KEY).unwrap().ordering_key;
    assert!(!ordering_key(b"").is_empty());
    assert_ne!(ordering_key(b"\xff"), ordering_key(b"\xfe"));
}

#[test]
fn metadata_that_would_be_taken_for_the_id_or_the_key_are_refused() {
    for name in [MESSAGE_UUID, KEY, KEY_BASE64] {
        let refused = write("t", &Message::new("x").with_metadata(name, "1"), &BY_KEY).unwrap_err();
        assert!(refused.contains(&format!("{name:?}")), "{refused}");
    }
}

#[test]
fn a_message_beyond_a_limit_is_named_with_the_limit() {
    let large = Message::with_id("big", "x").with_metadata("long", "v".repeat(1_025));
    let refused = write("t", &large, &BY_KEY).unwrap_err();
    assert!(refused.contains("\"big\"") && refused.contains("1024"), "{refused}");
}

/// As watermill-googlecloud writes and reads: the id under its attribute, the rest of the metadata beside it.
#[test]
fn what_go_wrote_is_read_to_the_byte() {
    let mut native = Native::new()
        .set_data(&b"\x00\xffpayload"[..])
        .set_attributes([
            ("_watermill_message_uuid", "0c0b4a9c-6f0b-4c1e-8f6a-0e6f2c1f1a7d"),
            ("correlation_id", "abc"),
            ("empty", ""),
        ])
        .set_message_id("19")
        .set_ordering_key("customer-7");
    native.publish_time = Some(google_cloud_wkt::Timestamp::clamp(1_764_201_912, 345_000_000));
    let expected = Message::with_id("0c0b4a9c-6f0b-4c1e-8f6a-0e6f2c1f1a7d", &b"\x00\xffpayload"[..])
        .with_key("customer-7")
        .with_metadata("correlation_id", "abc")
        .with_metadata("empty", "");
    assert_eq!(read(&mut native.clone(), false), expected);
    let as_go = expected
        .with_metadata("_watermill_message_google_message_id", "19")
        .with_metadata("publishTime", "2025-11-27 00:05:12.345 +0000 UTC");
    assert_eq!(read(&mut native, true), as_go);
}

#[test]
fn foreign_messages_are_read_whatever_they_are() {
    let mut bare = Native::new().set_data("x");
    assert_eq!(read(&mut bare, true), Message::with_id("", "x").with_metadata(GO_MESSAGE_ID, ""));
    let mut odd = Native::new().set_attributes([(KEY_BASE64, "%")]);
    assert_eq!(read(&mut odd, false), Message::with_id("", "").with_metadata(KEY_BASE64, "%"));
}

#[test]
fn times_are_printed_as_go_prints_them() {
    let at = |nanos| go_time(UNIX_EPOCH + Duration::new(3_600, nanos));
    assert_eq!(at(0), "1970-01-01 01:00:00 +0000 UTC");
    assert_eq!(at(100), "1970-01-01 01:00:00.0000001 +0000 UTC");
    assert_eq!(at(120_000_000), "1970-01-01 01:00:00.12 +0000 UTC");
}
