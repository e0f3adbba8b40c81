//! What Confluent's own client writes is read here, and what is written here is the same. How it was made stands in
//! `tests/confluent/make.py`.

use std::fmt::Debug;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use watermill_core::cqrs::{
    Decode, Encode, JsonCodec, Named, ProtobufCodec, RegisteredCodec, Schema, SchemaRegistry,
};
use watermill_schema_registry::AvroCodec;

use crate::server::Server;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Booked {
    room: i32,
    note: Option<String>,
    nights: Vec<i64>,
    kind: Kind,
    price: f64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Single,
    Double,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Stay {
    room: i32,
    guest: Guest,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Guest {
    name: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Room {
    room: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ProtoBooked {
    #[prost(int32, tag = "1")]
    room: i32,
    #[prost(message, optional, tag = "2")]
    guest: Option<ProtoGuest>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ProtoGuest {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ProtoLeft {
    #[prost(int32, tag = "1")]
    room: i32,
}

macro_rules! named {
    ($($type:ty),*) => {
        $(impl Named for $type { const NAME: &'static str = stringify!($type); })*
    };
}

named!(Booked, Stay, Guest, Room, ProtoBooked, ProtoGuest, ProtoLeft);

fn booked() -> Booked {
    let (note, nights) = (Some("late".to_owned()), vec![20_000, 20_001]);
    Booked { room: 7, note, nights, kind: Kind::Double, price: 99.5 }
}

fn ada() -> ProtoGuest {
    ProtoGuest { name: "Ada".to_owned() }
}

/// A payload, its schema, and the number of that.
struct Fixture {
    id: u32,
    payload: Bytes,
    schema: Value,
}

impl Fixture {
    fn of(what: &str) -> Self {
        let all: Value = serde_json::from_str(include_str!("../confluent/confluent.json")).unwrap();
        let mut payloads = all["payloads"].as_array().unwrap().iter();
        let found = payloads.find(|payload| payload["what"] == what).expect("it was made");
        let hex = found["payload"].as_str().unwrap().as_bytes();
        let digits = hex.chunks(2).map(|two| str::from_utf8(two).unwrap());
        let payload = digits.map(|two| u8::from_str_radix(two, 16).unwrap()).collect();
        Self { id: found["id"].as_u64().unwrap() as u32, payload, schema: found["schema"].clone() }
    }

    fn text(&self) -> &str {
        self.schema["schema"].as_str().unwrap()
    }
}

/// A registry that has this one number.
struct Fixed(u32);

#[async_trait::async_trait]
impl SchemaRegistry for Fixed {
    async fn register(&self, _: &str, _: &Schema) -> Result<u32, watermill_core::error::BoxError> {
        Ok(self.0)
    }
}

fn same<T: PartialEq + Debug, C: Encode<T> + Decode<T>>(codec: &C, fixture: &Fixture, value: &T) {
    assert_eq!(codec.decode(&fixture.payload).unwrap(), *value);
    assert_eq!(codec.encode(value).unwrap(), fixture.payload);
}

#[tokio::test]
async fn avro_is_that_of_confluents_client() {
    let fixture = Fixture::of("avro");
    let server = Server::start().await;
    server.keep(fixture.id as usize, fixture.schema.clone());
    let codec = AvroCodec::new(server.client())
        .register::<Booked>("avro-value", Schema::avro(fixture.text()))
        .await
        .unwrap();
    // The registry had numbers before, and this schema gets the next one.
    let payload = codec.encode(&booked()).unwrap();
    assert_eq!(payload[5..], fixture.payload[5..]);
    Decode::<Booked>::prepare(&codec, &fixture.payload).unwrap().await.unwrap();
    assert_eq!(Decode::<Booked>::decode(&codec, &fixture.payload).unwrap(), booked());
}

#[tokio::test]
async fn avro_with_a_reference_is_that_of_confluents_client() {
    let fixture = Fixture::of("avro with a reference");
    let guest = r#"{"type": "record", "name": "Guest", "namespace": "hotel", "fields": [{"name": "name", "type": "string"}]}"#;
    let server = Server::start().await;
    let client = server.client();
    client.register("hotel.Guest", &Schema::avro(guest)).await.unwrap();
    server.keep(fixture.id as usize, fixture.schema.clone());
    let schema = Schema::avro(fixture.text()).reference("hotel.Guest", "hotel.Guest", 1);
    let reading = AvroCodec::new(client.clone()).read::<Stay>(schema.clone()).await.unwrap();
    Decode::<Stay>::prepare(&reading, &fixture.payload).unwrap().await.unwrap();
    let stay = Stay { room: 7, guest: Guest { name: "Ada".to_owned() } };
    assert_eq!(Decode::<Stay>::decode(&reading, &fixture.payload).unwrap(), stay);

    let writing = AvroCodec::new(client).register::<Stay>("stay-value", schema).await.unwrap();
    assert_eq!(writing.encode(&stay).unwrap()[5..], fixture.payload[5..]);
}

#[tokio::test]
async fn json_is_that_of_confluents_client() {
    let fixture = Fixture::of("json");
    let codec = RegisteredCodec::new(JsonCodec::new())
        .register::<Room>(&Fixed(fixture.id), "json-value", Schema::json(fixture.text()))
        .await
        .unwrap();
    same(&codec, &fixture, &Room { room: 7 });
}

#[tokio::test]
async fn protocol_buffers_are_those_of_confluents_client() {
    let schema = Schema::protobuf(include_str!("../confluent/events.proto"));
    let registry = Fixed(Fixture::of("protobuf").id);
    let codec = RegisteredCodec::new(ProtobufCodec::new())
        .register::<ProtoBooked>(&registry, "protobuf-value", schema.clone())
        .await
        .unwrap()
        .register::<ProtoLeft>(&registry, "protobuf-value", schema.clone().message([1]))
        .await
        .unwrap()
        .register::<ProtoGuest>(&registry, "protobuf-value", schema.message([0, 0]))
        .await
        .unwrap();
    same(&codec, &Fixture::of("protobuf"), &ProtoBooked { room: 7, guest: Some(ada()) });
    same(&codec, &Fixture::of("protobuf, second"), &ProtoLeft { room: 7 });
    same(&codec, &Fixture::of("protobuf, within"), &ada());
}

#[tokio::test]
async fn what_a_registry_says_of_a_schema_is_understood() {
    let server = Server::start().await;
    for (what, expected) in [
        ("avro", Schema::avro(Fixture::of("avro").text())),
        ("json", Schema::json(Fixture::of("json").text())),
        ("protobuf", Schema::protobuf(Fixture::of("protobuf").text())),
    ] {
        let fixture = Fixture::of(what);
        server.keep(fixture.id as usize, fixture.schema);
        assert_eq!(*server.client().schema(fixture.id).await.unwrap(), expected);
    }
    server.keep(9, json!({ "schema": "", "schemaType": "THRIFT" }));
    let error = server.client().schema(9).await.unwrap_err();
    assert!(error.to_string().contains("THRIFT") && !error.is_retryable(), "{error}");
}
