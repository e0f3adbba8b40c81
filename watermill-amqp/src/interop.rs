//! Frames between Go and Rust: what each sent in bytes, and what the other made of it. `tests/rabbitmq/go/main.go` writes the
//! lines.

use std::io::Cursor;

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, gen_frame, parse_frame};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;
use watermill_core::Message;

use crate::{Topology, marshaler};

const PUBLISHED_BY_GO: &str = include_str!("../tests/rabbitmq/go/published_by_go.jsonl");
const READ_BY_GO: &str = include_str!("../tests/rabbitmq/go/read_by_go.jsonl");

struct Line {
    publish: Vec<u8>,
    header: Vec<u8>,
    message: Message,
}

/// Frames, and the message that Go sent or made of them.
fn lines(text: &str) -> impl Iterator<Item = Line> {
    text.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        let bytes = |name: &str| BASE64_STANDARD.decode(line[name].as_str().unwrap_or_default()).unwrap();
        let mut message = Message::with_id(line["uuid"].as_str().unwrap(), bytes("payload"));
        for (name, value) in line["metadata"].as_object().into_iter().flatten() {
            message.metadata_mut().insert(name, value.as_str().unwrap());
        }
        Line { publish: bytes("publish"), header: bytes("header"), message }
    })
}

fn header(frame: &[u8]) -> AMQPContentHeader {
    match parse_frame(frame).unwrap() {
        (_, AMQPFrame::Header(_, header)) => header,
        (_, other) => panic!("no header: {other}"),
    }
}

/// Messages of every kind, as Go's are in its fixture, with a key.
fn messages() -> Vec<Message> {
    vec![
        Message::with_id("8f7c1f6e-7c1b-4f4e-9c3f-2d0c3a9f0b11", r#"{"order":"7"}"#)
            .with_metadata("correlation_id", "c-1"),
        Message::with_id("größe", vec![0, 255, 10, 13])
            .with_metadata("grüße", "größer <&> 日本 🦀")
            .with_metadata("lines", "one\ntwo\t\"three\"\\")
            .with_metadata("empty", ""),
        Message::default(),
        Message::with_id("keyed", "x").with_key("customer-7"),
    ]
}

#[test]
fn what_go_publishes_is_read_and_goes_where_we_publish_to() {
    let (pub_sub, queue) = (Topology::pub_sub(), Topology::queue());
    for (at, Line { publish, header: frame, message }) in lines(PUBLISHED_BY_GO).enumerate() {
        let topology = if at < 4 { &pub_sub } else { &queue };
        let names = [topology.exchange_of("orders.placed").name, topology.routing_key_of("orders.placed")];
        // Kind, channel and size; class and method; a reserved number; exchange, routing key and flags; the end.
        let names =
            names.map(|name| [&[u8::try_from(name.len()).unwrap()], name.as_bytes()].concat()).concat();
        assert_eq!(publish[13..], [&names[..], &[0, 0xce]].concat());

        let header = header(&frame);
        assert_eq!(header.properties.delivery_mode(), &Some(2));
        assert_eq!(marshaler::read(&header.properties, message.payload().to_vec()).unwrap(), message);
    }
}

#[test]
fn what_go_reads_is_what_is_published() {
    let written: Vec<_> = messages()
        .iter()
        .map(|message| {
            let record = marshaler::write(message, true, 100).unwrap();
            let body_size = u64::try_from(message.payload().len()).unwrap();
            let content = AMQPContentHeader { class_id: 60, body_size, properties: record.properties };
            let frame = AMQPFrame::Header(0, content);
            let mut bytes = vec![0; 1_000];
            let end = gen_frame(&frame)(Cursor::new(&mut bytes[..]).into()).unwrap().position;
            bytes.truncate(usize::try_from(end).unwrap());
            assert_eq!(
                bytes.len(),
                record.frame_bytes,
                "what a frame has to hold is known before it is made"
            );
            bytes
        })
        .collect();
    let (read, made): (Vec<_>, Vec<_>) = lines(READ_BY_GO).map(|line| (line.header, line.message)).unzip();
    let lines: Vec<_> = written
        .iter()
        .zip(messages())
        .map(|(header, message)| {
            let [header, payload] =
                [&header[..], message.payload()].map(|bytes| BASE64_STANDARD.encode(bytes));
            format!(r#"{{"header":"{header}","payload":"{payload}"}}"#)
        })
        .collect();
    assert!(written == read, "Go has read other headers than these:\n{}", lines.join("\n"));
    let mut expected = messages();
    // Go knows no keys: there it is an entry of the metadata, as it is on the way.
    expected[3] = Message::with_id("keyed", "x").with_metadata("_watermill_key", "customer-7");
    assert_eq!(made, expected);
}
