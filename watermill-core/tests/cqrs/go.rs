//! Commands, events and replies that Go's Watermill has written, and what it has read of ours. How the fixtures are made
//! stands in `tests/go/main.go`; they are those of watermill 1.5.1, built with Go 1.26.8.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tower::{Layer, ServiceExt, service_fn};
use watermill_core::{
    FailurePolicy, Handler, MemoryBroker, Message, Metadata, Outputs, PublisherExt, Router, State,
    cqrs::{CommandBus, CommandProcessor, EventProcessor, Marshaler, Names, Topics},
    error::BoxError,
    metadata_keys::REQUEST_REPLY_OPERATION_ID,
    request_reply::{HandlerFailed, NoResult, ReplyInbox, ReplyInboxConfig, Responder},
};
use watermill_testkit::RecordingPublisher;

use crate::{BookRoom, Log, RoomBooked, running::Running};

const OPERATION: &str = "6a3f6d94-8b9c-4a3e-9d0b-5f8f7b5f0001";

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    what: String,
    uuid: String,
    metadata: Metadata,
    payload: String,
}

impl Line {
    /// Without what differs each time: its ids.
    fn of(what: &str, message: &Message) -> Self {
        let mut metadata = message.metadata().clone();
        if metadata.contains(REQUEST_REPLY_OPERATION_ID) {
            metadata.insert(REQUEST_REPLY_OPERATION_ID, OPERATION);
        }
        let payload = BASE64_STANDARD.encode(message.payload());
        Self { what: what.to_owned(), uuid: "1".to_owned(), metadata, payload }
    }
}

/// The message that Go has written.
fn written_by_go(what: &str) -> Message {
    let lines = include_str!("../go/written_by_go.jsonl").lines();
    let mut lines = lines.map(|line| serde_json::from_str::<Line>(line).unwrap());
    let line = lines.find(|line| line.what == what).unwrap();
    let mut message = Message::with_id(line.uuid, BASE64_STANDARD.decode(line.payload).unwrap());
    *message.metadata_mut() = line.metadata;
    message
}

/// What types are called in the program that has written the fixtures.
fn names() -> Names {
    Names::in_package("main").with::<RoomBooked>("hotel.room-booked")
}

fn ada() -> BookRoom {
    BookRoom { room: 7, guest: "Ada <&> \u{2028}".to_owned() }
}

#[tokio::test]
async fn commands_and_events_of_go_are_handled_here() {
    async fn handle(command: BookRoom, State(log): State<Log>) {
        assert_eq!(command, ada());
        log.note("command");
    }
    async fn booked(event: RoomBooked, State(log): State<Log>) {
        assert_eq!(event, RoomBooked { room: 7 });
        log.note("event");
    }
    let (broker, log) = (MemoryBroker::new(), Log::default());
    let marshaler = Marshaler::json().names(names().also::<BookRoom>("BookRoom"));
    let commands =
        CommandProcessor::new(broker.subscriber(), Topics::one("commands")).with_marshaler(marshaler.clone());
    let events = EventProcessor::new(broker.subscriber(), Topics::one("events")).with_marshaler(marshaler);
    let policy = || FailurePolicy::retry(0).then_drop();
    let router = Router::new()
        .with_state(log.clone())
        .add(commands.handler("commands", handle).on_failure(policy()))
        .add(events.group("events").on(booked).handler().on_failure(policy()));
    let running = Running::start(router).await;
    for (topic, what) in
        [("commands", "command"), ("commands", "command-short"), ("commands", "request"), ("events", "event")]
    {
        broker.publisher().publish_one(topic, written_by_go(what)).await.unwrap();
    }
    running.handled("commands", 3).await;
    running.handled("events", 1).await;
    running.stop().await;
    let mut lines = log.lines();
    lines.sort();
    assert_eq!(lines, ["command", "command", "command", "event"]);
}

/// Has a handler answer with what Go has written, to the operation that is asked for.
async fn replied_by_go(what: &'static str) -> Result<Value, HandlerFailed> {
    let (broker, asked) = (MemoryBroker::new(), Message::new(""));
    let answer = move |metadata: Metadata| async move {
        let operation = metadata.get(REQUEST_REPLY_OPERATION_ID).unwrap().to_owned();
        written_by_go(what).with_metadata(REQUEST_REPLY_OPERATION_ID, operation)
    };
    let handler =
        Handler::new("go", answer).from(broker.subscriber(), "in").to(broker.publisher(), "replies");
    let running = Running::start(Router::new().add(handler)).await;
    let inbox = ReplyInbox::open(broker.subscriber(), ReplyInboxConfig::new("replies")).await.unwrap();
    let reply = inbox.ask(&broker.publisher(), "in", asked).reply().await;
    running.stop().await;
    reply.map_err(|error| error.handler_failed().unwrap().clone())
}

#[tokio::test]
async fn replies_of_go_are_read_here() {
    assert_eq!(replied_by_go("reply").await.unwrap(), 560);
    assert_eq!(
        serde_json::from_value::<NoResult>(replied_by_go("done").await.unwrap()).unwrap(),
        NoResult {}
    );
    assert_eq!(replied_by_go("failed").await.unwrap_err().text(), "no such room");
}

#[cfg(feature = "protobuf")]
#[derive(Clone, PartialEq, prost::Message)]
struct StringValue {
    #[prost(string, tag = "1")]
    value: String,
}

#[cfg(feature = "protobuf")]
impl watermill_core::cqrs::Named for StringValue {
    const NAME: &'static str = "wrapperspb.StringValue";
}

#[cfg(feature = "protobuf")]
fn ada_in_protobuf() -> Message {
    let marshaler = Marshaler::new(watermill_core::cqrs::ProtobufCodec::new());
    marshaler.marshal(&StringValue { value: "Ada".to_owned() }).unwrap()
}

#[cfg(feature = "protobuf")]
#[tokio::test]
async fn protobuf_of_go_is_what_is_written_and_handled_here() {
    async fn handle(event: StringValue, State(log): State<Log>) {
        log.note(event.value);
    }
    let (ours, theirs) = (ada_in_protobuf(), written_by_go("proto"));
    assert_eq!((ours.payload(), ours.metadata()), (theirs.payload(), theirs.metadata()));
    let (broker, log) = (MemoryBroker::new(), Log::default());
    let events = EventProcessor::new(broker.subscriber(), Topics::by_name())
        .with_marshaler(Marshaler::new(watermill_core::cqrs::ProtobufCodec::new()));
    let running =
        Running::start(Router::new().with_state(log.clone()).add(events.handler("text", handle))).await;
    broker.publisher().publish_one("wrapperspb.StringValue", theirs).await.unwrap();
    running.handled("text", 1).await;
    running.stop().await;
    assert_eq!(log.lines(), ["Ada"]);
}

/// What Go is given to read.
async fn written_here() -> Vec<Line> {
    let marshaler = Marshaler::json().names(names());
    let mut lines = vec![
        Line::of("command", &marshaler.marshal(&ada()).unwrap()),
        Line::of("event", &marshaler.marshal(&RoomBooked { room: 7 }).unwrap()),
        // More than Go's needs in its metadata does no harm.
        Line::of("event", &marshaler.clone().write_content_type().marshal(&RoomBooked { room: 8 }).unwrap()),
    ];
    let publisher = RecordingPublisher::new();
    let inbox = ReplyInbox::open(MemoryBroker::new().subscriber(), ReplyInboxConfig::new("r")).await.unwrap();
    let bus = CommandBus::new(publisher.clone(), Topics::one("commands")).with_marshaler(marshaler);
    let _waiting = inbox.request(&bus, &ada()).replies::<u32>().await.unwrap();
    lines.push(Line::of("request", &publisher.published("commands")[0]));
    lines.push(Line::of("reply", &replied(Ok(json!(560))).await));
    lines.push(Line::of("failed", &replied(Err("no such room".into())).await));
    lines.push(Line::of("done", &replied(Ok(json!({}))).await));
    lines
}

/// What a responder makes of an outcome.
async fn replied(outcome: Result<Value, BoxError>) -> Message {
    let outcome = std::sync::Mutex::new(Some(outcome));
    let handler = service_fn(move |_: Message| {
        let outcome = outcome.lock().unwrap().take().unwrap();
        async move { outcome.and_then(|value| Ok(Outputs::from(Message::json(&value)?))) }
    });
    let request = Message::new("").with_metadata(REQUEST_REPLY_OPERATION_ID, OPERATION);
    Responder::new().layer(handler).oneshot(request).await.unwrap().messages()[0].clone()
}

#[tokio::test]
async fn go_reads_what_is_written_here() {
    let mut written = String::new();
    for line in written_here().await {
        written += &(serde_json::to_string(&line).unwrap() + "\n");
    }
    #[cfg(feature = "protobuf")]
    {
        written += &(serde_json::to_string(&Line::of("proto", &ada_in_protobuf())).unwrap() + "\n");
    }
    let given = include_str!("../go/written_here.jsonl");
    let given: String = given
        .lines()
        .filter(|line| cfg!(feature = "protobuf") || !line.contains(r#""proto""#))
        .map(|line| line.to_owned() + "\n")
        .collect();
    assert!(written == given, "tests/go/written_here.jsonl is no longer what is written here:\n{written}");
    let read: Vec<Value> = include_str!("../go/read_by_go.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let book = json!({"room": 7, "guest": "Ada <&> \u{2028}"});
    let expected = [
        json!({"what": "command", "name": "main.BookRoom", "value": book, "error": ""}),
        json!({"what": "event", "name": "hotel.room-booked", "value": {"room": 7}, "error": ""}),
        json!({"what": "event", "name": "hotel.room-booked", "value": {"room": 8}, "error": ""}),
        json!({"what": "request", "name": "main.BookRoom", "value": book, "error": ""}),
        json!({"what": "reply", "name": "", "value": 560, "error": ""}),
        json!({"what": "failed", "name": "", "value": 0, "error": "no such room"}),
        json!({"what": "done", "name": "", "value": {}, "error": ""}),
        json!({"what": "proto", "name": "wrapperspb.StringValue", "value": "Ada", "error": ""}),
    ];
    assert_eq!(read, expected);
}
