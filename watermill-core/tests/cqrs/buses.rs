//! Buses: where what is sent goes, what becomes of it on the way, and why it is not sent.

use watermill_core::{
    Handler, Json, MemoryBroker, Message, PublisherExt, Router, State,
    cqrs::{BusErrorKind, CommandBus, EventBus, Topics},
    error::{BoxError, PublishErrorKind, Verdict},
    middleware::Correlation,
    router::To,
};
use watermill_testkit::RecordingPublisher;

use crate::{BookRoom, RoomBooked, book, running::Running};

fn bus() -> (CommandBus, RecordingPublisher) {
    let publisher = RecordingPublisher::new();
    (CommandBus::new(publisher.clone(), Topics::prefixed("commands.")), publisher)
}

#[tokio::test]
async fn a_command_goes_to_the_topic_of_its_name_with_its_name_and_its_key() {
    let (bus, publisher) = bus();
    bus.send(&book(7)).await.unwrap();
    let sent = &publisher.published("commands.BookRoom")[0];
    assert_eq!(sent.payload(), r#"{"room":7,"guest":"Ada"}"#);
    assert_eq!(sent.metadata().iter().collect::<Vec<_>>(), [("name", "BookRoom")]);
    assert_eq!((sent.key().unwrap(), sent.id().len()), (&bytes::Bytes::from("Ada"), 36));
}

#[tokio::test]
async fn topics_are_found_by_name_by_rule_by_list_and_by_function() {
    let cases = [
        (Topics::by_name(), Some("RoomBooked")),
        (Topics::one("events"), Some("events")),
        (Topics::one("events").with("RoomBooked", "rooms"), Some("rooms")),
        (Topics::listed().with("RoomBooked", "rooms"), Some("rooms")),
        (Topics::listed(), None),
        (Topics::one(""), None),
        (Topics::from_fn(|name| Some(name.to_lowercase())), Some("roombooked")),
        (Topics::from_fn(|_| None), None),
    ];
    for (topics, expected) in cases {
        assert_eq!(topics.of("RoomBooked").as_deref(), expected, "{topics:?}");
    }
}

#[tokio::test]
async fn a_type_without_a_topic_is_found_out_when_its_bus_is_made_and_at_the_latest_when_it_is_sent() {
    let publisher = RecordingPublisher::new();
    let bus = EventBus::new(publisher.clone(), Topics::listed().with("RoomBooked", "rooms"));
    assert_eq!(bus.typed::<RoomBooked>().unwrap().topic(), "rooms");
    let errors = [bus.typed::<BookRoom>().unwrap_err(), bus.publish(&book(7)).await.unwrap_err()];
    for error in errors {
        assert_eq!((error.kind(), error.name()), (BusErrorKind::NoTopic, "BookRoom"));
        assert_eq!(Verdict::of(&error), Verdict::GiveUp);
    }
    assert!(publisher.calls().is_empty());
}

#[tokio::test]
async fn a_bus_of_one_type_sends_where_the_bus_does() {
    let (bus, publisher) = bus();
    let rooms = bus.typed::<BookRoom>().unwrap();
    rooms.send(&book(1)).await.unwrap();
    rooms.clone().send(&book(2)).await.unwrap();
    assert_eq!(publisher.published("commands.BookRoom").len(), 2);
}

#[tokio::test]
async fn a_hook_adds_to_what_is_sent_and_what_it_refuses_is_not_sent() {
    let (bus, publisher) = bus();
    let bus = bus
        .on_send(|sending| {
            let seen = format!("{} on {}", sending.name, sending.topic);
            sending.message.metadata_mut().insert("seen", seen);
            Ok(())
        })
        .on_send(|sending| match sending.message.payload().len() {
            ..30 => Ok(()),
            _ => Err("it is too long".into()),
        });
    bus.send(&book(7)).await.unwrap();
    let long = BookRoom { room: 7, guest: "x".repeat(100) };
    let error = bus.send(&long).await.unwrap_err();
    assert_eq!(error.kind(), BusErrorKind::Hook);
    let sent = publisher.published("commands.BookRoom");
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].metadata().get("seen"), Some("BookRoom on commands.BookRoom"));
}

#[tokio::test]
async fn a_message_is_changed_before_it_is_sent_and_after_the_hooks() {
    let (bus, publisher) = bus();
    let bus = bus.on_send(|sending| {
        sending.message.set_key(None);
        Ok(())
    });
    bus.send_with(&book(7), |message| message.set_key(Some("other".into()))).await.unwrap();
    assert_eq!(publisher.published("commands.BookRoom")[0].key().unwrap(), "other");
}

#[tokio::test]
async fn many_of_a_type_are_one_call_in_their_order() {
    let (bus, publisher) = bus();
    bus.send_all(&[book(1), book(2), book(3)]).await.unwrap();
    assert_eq!(publisher.calls(), [("commands.BookRoom".to_owned(), 3)]);
    let sent = publisher.published("commands.BookRoom");
    let rooms = sent.iter().map(|message| message.decode_json::<BookRoom>().unwrap().room);
    assert_eq!(rooms.collect::<Vec<_>>(), [1, 2, 3]);
}

#[tokio::test]
async fn what_the_publisher_says_is_said_on_with_its_verdict() {
    let (bus, publisher) = bus();
    for (kind, verdict) in
        [(PublishErrorKind::Unavailable, Verdict::Retry), (PublishErrorKind::Refused, Verdict::GiveUp)]
    {
        publisher.fail_next(1, kind);
        let error = bus.send(&book(7)).await.unwrap_err();
        assert_eq!(error.kind(), BusErrorKind::Publish);
        assert_eq!(error.publish_error().unwrap().kind(), kind);
        assert_eq!((Verdict::of(&error), error.is_retryable()), (verdict, verdict == Verdict::Retry));
    }
}

#[tokio::test]
async fn the_same_bus_sends_through_a_publisher_that_is_only_borrowed() {
    let (bus, usual) = bus();
    let transaction = RecordingPublisher::new();
    bus.through(&transaction).send(&book(7)).await.unwrap();
    assert_eq!(transaction.published("commands.BookRoom").len(), 1);
    assert!(usual.calls().is_empty());
}

#[tokio::test]
async fn an_event_that_a_handler_returns_is_published_on_its_topic_once_the_handler_has_succeeded() {
    async fn handle(
        Json(room): Json<u32>,
        State(bus): State<EventBus>,
    ) -> Result<To<String, Message>, BoxError> {
        if room == 0 {
            return Err("there is no such room".into());
        }
        Ok(bus.message(&RoomBooked { room })?)
    }
    let (broker, published) = (MemoryBroker::new(), RecordingPublisher::new());
    let bus = EventBus::new(RecordingPublisher::new(), Topics::prefixed("events."));
    let handler = Handler::new("handle", handle)
        .from(broker.subscriber(), "in")
        .to_topics(published.clone())
        .on_failure(watermill_core::FailurePolicy::retry(0).then_drop());
    let running = Running::start(Router::new().with_state(bus).add(handler)).await;
    for room in [0, 7] {
        broker.publisher().publish_one("in", Message::json(&room).unwrap()).await.unwrap();
    }
    running.handled("handle", 2).await;
    running.stop().await;
    let events = published.published("events.RoomBooked");
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].payload(), r#"{"room":7}"#);
}

#[tokio::test]
async fn what_is_sent_while_a_message_is_handled_carries_its_correlation() {
    async fn handle(State(bus): State<CommandBus>) -> Result<(), BoxError> {
        Ok(bus.send(&book(7)).await?)
    }
    let broker = MemoryBroker::new();
    let (bus, publisher) = bus();
    let router = Router::new()
        .with_state(bus)
        .layer(Correlation::new())
        .add(Handler::new("handle", handle).from(broker.subscriber(), "in"));
    let running = Running::start(router).await;
    broker.publisher().publish_one("in", Message::with_id("cause", "")).await.unwrap();
    running.handled("handle", 1).await;
    running.stop().await;
    let sent = &publisher.published("commands.BookRoom")[0];
    assert_eq!(sent.metadata().get("correlation_id"), Some("cause"));
    assert_eq!(sent.metadata().get("name"), Some("BookRoom"));
}
