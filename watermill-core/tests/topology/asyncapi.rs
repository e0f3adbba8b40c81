//! The document of AsyncAPI, compared with the schema that its authors publish.
//!
//! The schema beside this file is that of version 6.11.1 of the npm package `@asyncapi/specs`, of the AsyncAPI Initiative, under
//! the Apache License 2.0; what it says of bindings, of security and of foreign schema languages is left out of it, and so
//! are its texts.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use watermill_core::{
    FailurePolicy, Handler, Json, Message, Router, State,
    cqrs::{CommandProcessor, EventProcessor, Named, Topics},
    error::BoxError,
    router::{To, topology::AsyncApi},
};

use crate::Untouchable;

#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "only its schema is looked at")]
struct OrderPlaced {
    /// Where it goes.
    customer: Customer,
    cents: i64,
    note: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "only its schema is looked at")]
struct Customer {
    name: String,
}

#[derive(Serialize, JsonSchema)]
#[serde(tag = "kind")]
enum Bill {
    Invoice { cents: i64 },
    Refund { cents: i64 },
}

mod shipping {
    #[derive(serde::Serialize, schemars::JsonSchema)]
    pub(super) struct OrderPlaced {
        pub(super) weight: u32,
    }
}

async fn bill(
    State(factor): State<i64>,
    Json(order): Json<OrderPlaced>,
) -> Result<Option<Json<Bill>>, BoxError> {
    Ok(Some(Json(Bill::Invoice { cents: order.cents * factor })))
}

async fn ship(
    _orders: Vec<Json<OrderPlaced>>,
) -> Vec<Result<To<String, Json<shipping::OrderPlaced>>, BoxError>> {
    vec![Ok(To("parcels".to_owned(), Json(shipping::OrderPlaced { weight: 1 })))]
}

async fn count(_pairs: Json<(u32, String)>, _message: Message) {}

async fn forward(message: Message) -> Message {
    message
}

fn document() -> Value {
    let dead = FailurePolicy::nack().then_dead_letter(Untouchable, "billing.dead");
    let router = Router::new()
        .with_state(100_i64)
        .add(
            Handler::new("bill", bill)
                .from(Untouchable, "orders/placed today")
                .group("billing")
                .to(Untouchable, "bills")
                .on_failure(dead)
                .documented(),
        )
        .add(
            Handler::batch("ship", 10, Duration::ZERO, ship)
                .from(Untouchable, "orders/placed today")
                .to_topics(Untouchable)
                .documented(),
        )
        .add(Handler::new("count", count).from(Untouchable, "pairs").documented())
        .add(Handler::new("forward", forward).from(Untouchable, "bills").to(Untouchable, "copies"));
    AsyncApi::new("Shop", "1.2.0")
        .description("Sells.")
        .server("kafka", "kafka://me:secret@kafka.internal:9092")
        .document(&router.describe())
}

fn problems(document: &Value) -> Vec<String> {
    let schema = serde_json::from_str(include_str!("asyncapi-3.1.0.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    validator.iter_errors(document).map(|error| format!("{} at {}", error, error.instance_path())).collect()
}

#[test]
fn a_document_keeps_to_the_schema_of_asyncapi() {
    let mut document = document();
    assert_eq!(problems(&document), [""; 0], "{document:#}");
    assert!(!document.to_string().contains("secret"));
    document["operations"]["bill"]["action"] = "hear".into();
    assert_ne!(problems(&document), [""; 0], "the schema finds nothing");
}

#[test]
fn of_an_address_nothing_is_written_that_may_be_secret() {
    for (address, host) in [
        ("amqp://me:secret@rabbit:5672/orders", "rabbit:5672"),
        ("amqp://me:se/secret?cret#secret@rabbit:5672/orders", "rabbit:5672"),
        ("postgres://db/orders?user=me&password=secret", "db"),
        ("db?password=secret", "db"),
        ("postgres://db/orders?user=me@x&password=secret", "x"),
    ] {
        let document = AsyncApi::new("Shop", "1").server("it", address).document(&Router::new().describe());
        assert_eq!(document["servers"]["it"]["host"], host, "{address}");
        assert!(!document.to_string().contains("secret"), "{document}");
    }
}

#[test]
fn every_reference_of_a_document_leads_somewhere() {
    fn follow(value: &Value, document: &Value, found: &mut usize) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(target)) = fields.get("$ref") {
                    let pointer =
                        target.strip_prefix('#').expect("it is in the document").replace("%20", " ");
                    assert!(document.pointer(&pointer).is_some(), "{target} leads nowhere");
                    *found += 1;
                }
                fields.values().for_each(|value| follow(value, document, found));
            }
            Value::Array(items) => items.iter().for_each(|value| follow(value, document, found)),
            _ => {}
        }
    }
    let (document, mut found) = (document(), 0);
    follow(&document, &document, &mut found);
    assert!(found > 20, "{found}");
}

#[test]
fn payloads_have_the_schemas_of_the_types_that_are_decoded_and_encoded() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["OrderPlaced"]["required"], json!(["customer", "cents"]));
    assert_eq!(schemas["Customer"]["properties"]["name"]["type"], "string");
    let orders = &document["channels"]["kafka:orders/placed today"];
    assert_eq!(orders["address"], "orders/placed today");
    assert_eq!(orders["servers"], json!([{ "$ref": "#/servers/kafka" }]));
    assert_eq!(orders["messages"]["OrderPlaced"]["$ref"], "#/components/messages/OrderPlaced");
    let message = &document["components"]["messages"]["OrderPlaced"];
    assert_eq!(message["payload"]["$ref"], "#/components/schemas/OrderPlaced");
    assert_eq!(message["contentType"], "application/json");
}

#[test]
fn handlers_receive_and_send_and_their_dead_letters_are_what_they_took() {
    let document = document();
    let operations = &document["operations"];
    assert_eq!(operations["bill"]["action"], "receive");
    assert_eq!(operations["bill"]["x-consumer-group"], "billing");
    assert_eq!(operations["bill.outputs"]["action"], "send");
    assert_eq!(
        operations["bill.outputs"]["messages"],
        json!([{ "$ref": "#/channels/kafka:bills/messages/Bill" }])
    );
    let dead = &operations["bill.dead_letters"];
    assert_eq!(dead["channel"]["$ref"], "#/channels/kafka:billing.dead");
    assert_eq!(dead["messages"], json!([{ "$ref": "#/channels/kafka:billing.dead/messages/OrderPlaced" }]));
    assert_eq!(document["channels"]["kafka:*"]["address"], Value::Null);
}

#[test]
fn two_types_of_one_name_are_two_schemas_and_a_handler_that_is_not_documented_is_there_without() {
    let document = document();
    assert_eq!(document["components"]["schemas"]["OrderPlaced2"]["required"], json!(["weight"]));
    let sent = &document["channels"]["kafka:*"]["messages"];
    assert_eq!(sent, &json!({ "OrderPlaced2": { "$ref": "#/components/messages/OrderPlaced2" } }));
    assert_eq!(document["operations"]["forward"]["messages"], Value::Null);
    assert_eq!(
        document["channels"]["kafka:copies"],
        json!({ "address": "copies", "servers": [{ "$ref": "#/servers/kafka" }] })
    );
}

#[test]
fn a_description_names_the_payloads_of_documented_handlers() {
    async fn welcome(Json(order): Json<OrderPlaced>) -> (Json<Bill>, Json<Bill>) {
        (Json(Bill::Invoice { cents: order.cents }), Json(Bill::Refund { cents: 1 }))
    }
    let welcome =
        Handler::new("welcome", welcome).from(Untouchable, "in").to(Untouchable, "out").documented();
    let topology = Router::new().add(welcome).describe();
    let handler = topology.handler("welcome").unwrap();
    assert_eq!((&*handler.consumes, &*handler.produces), (&["OrderPlaced".into()][..], &["Bill".into()][..]));
    let explained = handler.explain().to_string();
    assert!(explained.contains("takes      OrderPlaced from kafka:in"), "{explained}");
    assert!(explained.contains("publishes  Bill to kafka:out"), "{explained}");
}

#[derive(Deserialize, JsonSchema)]
struct BookRoom {
    room: u32,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct RoomBooked {
    room: u32,
}

#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "only its schema is looked at")]
struct RoomLeft {
    at: String,
}

impl Named for BookRoom {
    const NAME: &'static str = "hotel.BookRoom";
}

impl Named for RoomBooked {
    const NAME: &'static str = "RoomBooked";
}

impl Named for RoomLeft {
    const NAME: &'static str = "RoomLeft";
}

async fn book(command: BookRoom, State(_): State<i64>) -> Result<Json<RoomBooked>, BoxError> {
    Ok(Json(RoomBooked { room: command.room }))
}

async fn booked(_: RoomBooked) {}

async fn left(_: RoomLeft, _: Message) {}

#[test]
fn commands_and_events_are_called_as_on_the_wire_and_have_their_schemas() {
    let commands = CommandProcessor::new(Untouchable, Topics::prefixed("commands."));
    let events = EventProcessor::new(Untouchable, Topics::one("events"));
    let router = Router::new()
        .with_state(1_i64)
        .add(commands.handler("book", book).to(Untouchable, "events").documented())
        .add(events.group("report").on_documented(booked).on_documented(left).handler())
        .add(events.group("audit").on(booked).handler());
    let topology = router.describe();
    let consumed: Vec<_> = topology.handlers.iter().map(|handler| handler.consumes.join(" ")).collect();
    assert_eq!(consumed, ["hotel.BookRoom", "RoomBooked RoomLeft", ""]);

    let document = AsyncApi::new("Hotel", "1.0.0").document(&topology);
    assert_eq!(problems(&document), [""; 0]);
    let message = &document["components"]["messages"]["hotel.BookRoom"];
    assert_eq!(message["payload"]["$ref"], "#/components/schemas/BookRoom");
    assert_eq!(document["components"]["schemas"]["BookRoom"]["properties"]["room"]["format"], "uint32");
    let operation = |name: &str| document["operations"][name]["messages"].to_string();
    assert!(operation("book").contains("hotel.BookRoom"));
    assert!(operation("book.outputs").contains("RoomBooked"));
    assert!(operation("report").contains("RoomBooked") && operation("report").contains("RoomLeft"));
    assert_eq!(document["operations"]["audit"]["messages"], Value::Null);
}
