//! What a marshaler writes, and what is read of it.

use serde::{Deserialize, Serialize};
use watermill_core::{
    FailurePolicy, MemoryBroker, Message, PublisherExt, Router, State,
    cqrs::{EventProcessor, Marshaler, Named, Names, Topics},
};

use crate::{BookRoom, BookingCancelled, Log, RoomBooked, book, running::Running};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct PriceChanged {
    cents: u64,
    currency: String,
    country: String,
}

impl Named for PriceChanged {
    const NAME: &'static str = "PriceChanged";
    const VERSION: u32 = 3;
}

/// What a handler of `PriceChanged` makes of messages, and how many it refuses.
async fn read(marshaler: Marshaler, messages: Vec<Message>) -> (Vec<String>, u64) {
    async fn handle(event: PriceChanged, State(log): State<Log>) {
        log.note(format!("{} {} {}", event.cents, event.currency, event.country));
    }
    let (broker, log) = (MemoryBroker::new(), Log::default());
    let handler = EventProcessor::new(broker.subscriber(), Topics::one("in"))
        .with_marshaler(marshaler)
        .handler("price", handle)
        .on_failure(FailurePolicy::retry(3).then_drop());
    let running = Running::start(Router::new().with_state(log.clone()).add(handler)).await;
    let count = messages.len() as u64;
    for message in messages {
        broker.publisher().publish_one("in", message).await.unwrap();
    }
    running.handled("price", count).await;
    let report = running.stop().await;
    (log.lines(), report.handler("price").unwrap().counts.dropped)
}

fn of_version(version: &str, payload: &'static str) -> Message {
    let message = Message::new(payload).with_metadata("name", "PriceChanged");
    if version.is_empty() { message } else { message.with_metadata("schema_version", version) }
}

#[tokio::test]
async fn older_messages_are_brought_up_one_version_after_another() {
    let marshaler = Marshaler::json()
        .upcast_json::<PriceChanged>(1, |mut price| {
            price["currency"] = "EUR".into();
            Ok(price)
        })
        .upcast_json::<PriceChanged>(2, |mut price| {
            price["country"] = "PT".into();
            Ok(price)
        });
    let current = PriceChanged { cents: 3, currency: "SEK".to_owned(), country: "SE".to_owned() };
    let current = marshaler.marshal(&current).unwrap();
    assert_eq!(current.metadata().get("schema_version"), Some("3"));
    let messages =
        vec![of_version("", r#"{"cents":1}"#), of_version("2", r#"{"cents":2,"currency":"CHF"}"#), current];
    assert_eq!(
        read(marshaler, messages).await,
        (vec!["1 EUR PT".into(), "2 CHF PT".into(), "3 SEK SE".into()], 0)
    );
}

#[tokio::test]
async fn versions_that_nothing_is_known_of_are_refused() {
    let marshaler = Marshaler::json().upcast_json::<PriceChanged>(1, |_| Err("it has no price".into()));
    let messages = vec![
        of_version("", "{}"),    // the step fails
        of_version("2", "{}"),   // there is no step
        of_version("4", "{}"),   // newer than the type
        of_version("new", "{}"), // no version
    ];
    assert_eq!(read(marshaler, messages).await, (vec![], 4));
}

#[tokio::test]
async fn a_content_type_is_written_if_asked_for_and_compared_if_it_is_there() {
    let plain = Marshaler::json().marshal(&RoomBooked { room: 7 }).unwrap();
    assert_eq!(plain.metadata().get("content_type"), None);
    let typed = Marshaler::json().write_content_type();
    let message = typed.marshal(&RoomBooked { room: 7 }).unwrap();
    assert_eq!(message.metadata().get("content_type"), Some("application/json"));
    let payload = r#"{"cents":1,"currency":"EUR","country":"PT"}"#;
    let of_type = |content_type| of_version("3", payload).with_metadata("content_type", content_type);
    let messages = vec![
        of_type("application/json"),
        of_type("Application/JSON; charset=utf-8"),
        of_type(""),
        of_type("application/x-protobuf"),
    ];
    let (lines, dropped) = read(Marshaler::json(), messages).await;
    assert_eq!((lines.len(), dropped), (3, 1));
}

#[test]
fn a_cloud_event_has_its_attributes_beside_the_name() {
    let message = Marshaler::json().cloud_events("/hotel").marshal(&book(7)).unwrap();
    let attributes = [
        ("ce-id", message.id().as_str()),
        ("ce-partitionkey", "Ada"),
        ("ce-source", "/hotel"),
        ("ce-specversion", "1.0"),
        ("ce-type", "BookRoom"),
        ("name", "BookRoom"),
    ];
    assert_eq!(message.metadata().iter().collect::<Vec<_>>(), attributes);
}

#[tokio::test]
async fn a_cloud_event_without_a_name_is_known_by_its_type() {
    let payload = r#"{"cents":1,"currency":"EUR","country":"PT"}"#;
    let event =
        Message::new(payload).with_metadata("ce-type", "PriceChanged").with_metadata("schema_version", "3");
    assert_eq!(read(Marshaler::json(), vec![event]).await, (vec!["1 EUR PT".into()], 0));
}

#[test]
fn names_are_those_of_types_of_a_package_of_a_function_or_of_a_list() {
    assert_eq!(Names::new().of::<BookRoom>(), "BookRoom");
    assert_eq!(Names::in_package("hotel").of::<BookRoom>(), "hotel.BookRoom");
    assert_eq!(Names::from_fn(str::to_lowercase).of::<BookRoom>(), "bookroom");
    let listed = Names::in_package("hotel").with::<RoomBooked>("desk.Booked");
    assert_eq!(
        (listed.of::<RoomBooked>(), listed.of::<BookingCancelled>()),
        ("desk.Booked".into(), "hotel.BookingCancelled".into())
    );
}

#[test]
fn a_value_that_cannot_be_written_is_an_error_of_its_own() {
    #[derive(Serialize)]
    struct Keys(std::collections::HashMap<(u32, u32), u32>);
    impl Named for Keys {
        const NAME: &'static str = "Keys";
    }
    let error = Marshaler::json().marshal(&Keys([((1, 2), 3)].into())).unwrap_err();
    assert_eq!(error.kind(), watermill_core::cqrs::BusErrorKind::Encode);
    assert!(watermill_core::error::Permanent::is(&error));
}

#[cfg(feature = "macros")]
#[test]
fn the_derive_says_the_name_the_version_and_the_key() {
    #[derive(Named)]
    struct Plain;
    #[derive(Named)]
    #[named(go = "hotel.BookRoom", version = 2, key = guest)]
    struct Full {
        guest: u64,
    }
    #[derive(Named)]
    #[named("changed.text", key = 1)]
    struct Changed<T: 'static>(T, &'static str);
    assert_eq!((Plain::NAME, Plain::VERSION, Plain.key()), ("Plain", 1, None));
    assert_eq!((Full::NAME, Full::VERSION), ("hotel.BookRoom", 2));
    assert_eq!(Full { guest: 7 }.key().unwrap(), "7");
    assert_eq!((Changed::<u8>::NAME, Changed(1_u8, "k").key().unwrap()), ("changed.text", "k".into()));
    assert_eq!(Changed(1_u8, "k").0, 1);
}
