//! Values of other schemas than the reader's.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;
use watermill_core::{
    cqrs::{BusErrorKind, Decode, Encode, Marshaler, Named, Schema},
    error::{BoxError, Nack, Permanent, find},
};
use watermill_schema_registry::{AvroCodec, RegistryErrorKind};

use crate::server::{Answer, Server};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Old {
    room: i32,
    floor: i32,
}

impl Named for Old {
    const NAME: &'static str = "Booked";
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct New {
    room: i64,
    note: Option<String>,
    nights: i32,
}

impl Named for New {
    const NAME: &'static str = "Booked";
}

fn old() -> Schema {
    let fields = json!([{ "name": "room", "type": "int" }, { "name": "floor", "type": "int" }]);
    Schema::avro(json!({ "type": "record", "name": "Booked", "fields": fields }).to_string())
}

fn new() -> Schema {
    let fields = json!([
        { "name": "room", "type": "long" },
        { "name": "note", "type": ["null", "string"], "default": null },
        { "name": "nights", "type": "int", "default": 1 },
    ]);
    Schema::avro(json!({ "type": "record", "name": "Booked", "fields": fields }).to_string())
}

async fn read<T: Named + for<'d> Deserialize<'d>>(codec: &AvroCodec, payload: &Bytes) -> Result<T, BoxError> {
    if let Some(preparing) = Decode::<T>::prepare(codec, payload) {
        preparing.await?;
    }
    codec.decode(payload)
}

#[tokio::test]
async fn a_payload_begins_with_the_number_that_the_registry_gave_its_schema() {
    let server = Server::start().await;
    server.keep(258, json!({ "schema": "\"string\"" }));
    let codec = AvroCodec::new(server.client()).register::<Old>("rooms", old()).await.unwrap();
    let payload = codec.encode(&Old { room: 7, floor: -1 }).unwrap();
    assert_eq!(payload[..], b"\x00\x00\x00\x01\x03\x0e\x01"[..]);
    assert!(Decode::<Old>::prepare(&codec, &payload).is_none());
    assert_eq!(read::<Old>(&codec, &payload).await.unwrap(), Old { room: 7, floor: -1 });
}

#[tokio::test]
async fn what_was_written_with_an_older_schema_has_the_defaults_of_the_newer_one() {
    let server = Server::start().await;
    let writer = AvroCodec::new(server.client()).register::<Old>("rooms", old()).await.unwrap();
    let payload = writer.encode(&Old { room: 7, floor: 2 }).unwrap();
    let reader = AvroCodec::new(server.client()).read::<New>(new()).await.unwrap();
    let asked = server.asked().len();
    for _ in 0..3 {
        assert_eq!(read::<New>(&reader, &payload).await.unwrap(), New { room: 7, note: None, nights: 1 });
    }
    // Its schema was asked for once.
    assert_eq!(server.asked().len(), asked + 1);
}

#[tokio::test]
async fn a_service_that_reads_alone_starts_while_the_registry_is_away() {
    let server = Server::start().await;
    let codec = AvroCodec::new(server.client()).read::<New>(new()).await.unwrap();
    assert!(server.asked().is_empty());
    // It has no number to write.
    let error = Marshaler::new(codec).marshal(&New { room: 7, note: None, nights: 1 }).unwrap_err();
    assert_eq!(error.kind(), BusErrorKind::Encode);
}

#[tokio::test]
async fn a_type_without_a_schema_is_neither_written_nor_read() {
    let server = Server::start().await;
    let codec = AvroCodec::new(server.client()).register::<Old>("rooms", old()).await.unwrap();
    let payload = codec.encode(&Old { room: 7, floor: 2 }).unwrap();
    let written = codec.encode(&New { room: 7, note: None, nights: 1 }).unwrap_err();
    let read = read::<New>(&codec, &payload).await.unwrap_err();
    for error in [written, read] {
        assert!(error.to_string().contains("the schema of Booked"), "{error}");
    }
}

#[tokio::test]
async fn a_registry_that_is_away_is_not_the_messages_fault_and_a_number_that_it_has_not_is() {
    let server = Server::start().await;
    let client = watermill_schema_registry::SchemaRegistryClient::new(
        server.config().call_timeout(std::time::Duration::ZERO),
    );
    let codec = AvroCodec::new(client.unwrap()).read::<New>(new()).await.unwrap();
    let payload = Bytes::from_static(b"\x00\x00\x00\x00\x09\x0e\x01");
    for answer in [Answer::Status(503), Answer::Status(401)] {
        server.next([answer]);
        assert!(Nack::is(&*read::<New>(&codec, &payload).await.unwrap_err()));
    }
    let error = read::<New>(&codec, &payload).await.unwrap_err();
    let found = find::<watermill_schema_registry::RegistryError>(&*error).unwrap();
    assert_eq!(found.kind(), RegistryErrorKind::NotFound);
    assert!(!Nack::is(&*error) && find::<Permanent>(&*error).is_none());
}

#[tokio::test]
async fn a_number_that_is_of_no_schema_of_avro_is_refused_for_good() {
    let server = Server::start().await;
    server.keep(1, json!({ "schema": "{}", "schemaType": "JSON" }));
    server.keep(2, json!({ "schema": "{\"type\": \"nothing\"}" }));
    let codec = AvroCodec::new(server.client()).read::<New>(new()).await.unwrap();
    for id in [1, 2] {
        let payload = Bytes::copy_from_slice(&[0, 0, 0, 0, id, 2]);
        let error = read::<New>(&codec, &payload).await.unwrap_err();
        assert!(find::<Permanent>(&*error).is_some(), "{error}");
    }
}

#[tokio::test]
async fn a_payload_that_is_not_what_its_schema_says_is_not_read() {
    let server = Server::start().await;
    let codec = AvroCodec::new(server.client()).register::<Old>("rooms", old()).await.unwrap();
    for faulty in [
        &b""[..],
        b"{\"room\":7}",
        b"\x00\x00\x00\x00",
        b"\x00\x00\x00\x00\x01",
        b"\x00\x00\x00\x00\x01\x0e",
        b"\x00\x00\x00\x00\x01\x0e\x01\x00",
    ] {
        assert!(read::<Old>(&codec, &Bytes::from_static(faulty)).await.is_err(), "{faulty:?}");
    }
}

#[tokio::test]
async fn a_faulty_schema_is_refused_before_the_registry_keeps_it() {
    let server = Server::start().await;
    for schema in [Schema::avro("{\"type\": \"nothing\"}"), Schema::json("{}")] {
        let error = AvroCodec::new(server.client()).register::<Old>("rooms", schema).await.unwrap_err();
        assert_eq!(error.kind(), RegistryErrorKind::Invalid, "{error}");
    }
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn schemas_that_refer_to_others_are_read_with_all_of_them() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Name {
        text: String,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Guest {
        name: Name,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Stay {
        guest: Guest,
        host: Name,
    }
    impl Named for Stay {
        const NAME: &'static str = "Stay";
    }
    let record = |name: &str, fields: serde_json::Value| {
        Schema::avro(json!({ "type": "record", "name": name, "fields": fields }).to_string())
    };
    let server = Server::start().await;
    let client = server.client();
    let name = record("Name", json!([{ "name": "text", "type": "string" }]));
    client.register("name", &name).await.unwrap();
    let guest = record("Guest", json!([{ "name": "name", "type": "Name" }])).reference("Name", "name", 1);
    client.register("guest", &guest).await.unwrap();
    let fields = json!([{ "name": "guest", "type": "Guest" }, { "name": "host", "type": "Name" }]);
    let stay = record("Stay", fields).reference("Guest", "guest", 1).reference("Name", "name", 1);

    let codec = AvroCodec::new(client.clone()).register::<Stay>("stay", stay.clone()).await.unwrap();
    let name = |text: &str| Name { text: text.to_owned() };
    let value = Stay { guest: Guest { name: name("Ada") }, host: name("Bo") };
    let payload = codec.encode(&value).unwrap();
    assert_eq!(payload[5..], b"\x06Ada\x04Bo"[..]);
    assert_eq!(read::<Stay>(&codec, &payload).await.unwrap(), value);
    let reader = AvroCodec::new(client).read::<Stay>(stay).await.unwrap();
    assert_eq!(read::<Stay>(&reader, &payload).await.unwrap(), value);
}
