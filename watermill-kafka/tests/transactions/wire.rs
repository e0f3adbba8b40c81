//! Records on the wire, byte for byte, as Go's client writes them.

use rdkafka::{Message as _, message::Headers as _};
use watermill_core::{Message, Publisher as _};
use watermill_kafka::KafkaPublisher;

use crate::support::{committed, config, topic};

/// Name and value of a header.
type Header = (String, Option<Vec<u8>>);

async fn written(message: Message) -> (Option<Vec<u8>>, Option<Vec<u8>>, Vec<Header>) {
    let topic = topic(&[]).await;
    let publisher = KafkaPublisher::new(config()).expect("a valid config");
    publisher.publish(&topic, vec![message]).await.expect("it is accepted");
    let record = committed(&topic).pop().expect("it was written");
    let headers = record.headers().expect("it has headers").iter();
    let headers = headers.map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect();
    (record.key().map(<[u8]>::to_vec), record.payload().map(<[u8]>::to_vec), headers)
}

fn header(name: &str, value: &str) -> Header {
    (name.to_owned(), Some(value.as_bytes().to_vec()))
}

#[tokio::test]
async fn the_id_is_the_first_header_and_the_metadata_follows_sorted_by_name() {
    let message = Message::with_id("8d29c4a0", vec![0, 1, 255])
        .with_key("customer-7")
        .with_metadata("name", "käse")
        .with_metadata("empty", "")
        .with_metadata("correlation_id", "c");
    let (key, payload, headers) = written(message).await;
    assert_eq!(key.as_deref(), Some(&b"customer-7"[..]));
    assert_eq!(payload.as_deref(), Some(&[0, 1, 255][..]));
    let expected = [
        header("_watermill_message_uuid", "8d29c4a0"),
        header("correlation_id", "c"),
        header("empty", ""),
        header("name", "käse"),
    ];
    assert_eq!(headers, expected);
}

#[tokio::test]
async fn without_a_key_there_is_none_and_what_is_empty_is_not_null() {
    let (key, payload, headers) = written(Message::with_id("", "")).await;
    assert_eq!(key, None);
    assert_eq!(payload.as_deref(), Some(&b""[..]));
    assert_eq!(headers, [header("_watermill_message_uuid", "")]);

    let (key, ..) = written(Message::new("x").with_key("")).await;
    assert_eq!(key.as_deref(), Some(&b""[..]));
}
