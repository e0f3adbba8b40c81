//! Processors: which handler a command or an event reaches, and which is refused.

use tower::{ServiceBuilder, ServiceExt as _, layer::layer_fn, util::BoxCloneService};
use watermill_core::{
    DeliveryInfo, FailurePolicy, Handlers, MemoryBroker, Message, MessageId, Metadata, Outputs, PublisherExt,
    Router, State,
    cqrs::{CommandBus, CommandProcessor, EventBus, EventProcessor, Marshaler, Names, Topics, UnknownName},
    error::BoxError,
    middleware::IgnoreErrors,
    router::RunErrorKind,
};

use crate::{BookRoom, BookingCancelled, Log, RoomBooked, book, refusal, running::Running};

fn commands(broker: &MemoryBroker) -> CommandProcessor {
    CommandProcessor::new(broker.subscriber(), Topics::prefixed("commands."))
}

fn command_bus(broker: &MemoryBroker) -> CommandBus {
    CommandBus::new(broker.publisher(), Topics::prefixed("commands."))
}

#[tokio::test]
async fn a_command_comes_first_and_then_whatever_a_handler_may_take() {
    async fn handle(
        command: BookRoom,
        State(log): State<Log>,
        id: MessageId,
        metadata: Metadata,
        info: DeliveryInfo,
        message: Message,
    ) {
        let name = metadata.get("name").unwrap();
        assert_eq!(message.id(), &id);
        log.note(format!("{name} {} by {:?}, attempt {:?}", command.room, message.key(), info.attempt()));
    }
    let (broker, log) = (MemoryBroker::new(), Log::default());
    let router = Router::new().with_state(log.clone()).add(commands(&broker).handler("book", handle));
    let running = Running::start(router).await;
    command_bus(&broker).send(&book(7)).await.unwrap();
    running.handled("book", 1).await;
    running.stop().await;
    assert_eq!(log.lines().len(), 1);
    assert!(log.lines()[0].starts_with("BookRoom 7 by Some(b\"Ada\")"), "{:?}", log.lines());
}

#[tokio::test]
async fn two_handlers_of_one_command_are_refused_whoever_made_them() {
    async fn handle(_: BookRoom) {}
    async fn other(_: RoomBooked) {}
    let broker = MemoryBroker::new();
    let one = commands(&broker);
    let another = CommandProcessor::new(broker.subscriber().group("x"), Topics::one("elsewhere"));
    let text = refusal(Router::new().add(one.handler("a", handle)).add(another.handler("b", handle))).await;
    assert!(text.contains(r#"handlers "a" and "b" both handle the command "BookRoom""#), "{text}");
    let grouped = another.group("b").on(other).on(handle).handler();
    let text = refusal(Router::new().add(one.handler("a", handle)).add(grouped)).await;
    assert!(text.contains(r#"handlers "a" and "b" both"#), "{text}");
    let merged = Handlers::new().add(another.handler("b", handle));
    let text = refusal(Router::new().add(one.handler("a", handle)).merge(merged)).await;
    assert!(text.contains(r#"handlers "a" and "b" both"#), "{text}");
    let twice = another.group("b").on(handle).on(handle).handler();
    let text = refusal(Router::new().add(twice)).await;
    assert!(text.contains("two of its functions"), "{text}");
}

#[tokio::test]
async fn a_running_router_refuses_a_second_handler_of_a_command() {
    async fn handle(_: BookRoom) {}
    let broker = MemoryBroker::new();
    let router = Router::new().add(commands(&broker).handler("a", handle));
    let handle_of_router = router.handle();
    let running = Running::start(router).await;
    let error = handle_of_router.add(commands(&broker).handler("b", handle)).await.unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::Build);
    assert!(error.to_string().contains(r#"handlers "a" and "b" both"#), "{error}");
    drop(handle_of_router);
    running.stop().await;
}

#[tokio::test]
async fn a_type_without_a_topic_is_refused_when_the_router_is_to_run() {
    async fn handle(_: BookRoom) {}
    let broker = MemoryBroker::new();
    let processor = CommandProcessor::new(broker.subscriber(), Topics::listed());
    let text = refusal(Router::new().add(processor.handler("book", handle))).await;
    assert!(text.contains(r#"there is no topic for the command "BookRoom""#), "{text}");
    let text = refusal(Router::new().add(processor.group("g").on(handle).handler())).await;
    assert!(text.contains(r#"there is no topic for the command "BookRoom""#), "{text}");
}

#[tokio::test]
async fn every_handler_of_an_event_hears_of_it_in_a_group_of_its_own() {
    async fn one(event: RoomBooked, State(log): State<Log>) {
        log.note(format!("one {}", event.room));
    }
    async fn two(event: RoomBooked, State(log): State<Log>) {
        log.note(format!("two {}", event.room));
    }
    let (broker, log) = (MemoryBroker::new(), Log::default());
    // One subscriber with a group: each handler consumes for its own all the same.
    let events = EventProcessor::new(broker.subscriber().group("shared"), Topics::one("events"));
    let router =
        Router::new().with_state(log.clone()).add(events.handler("one", one)).add(events.handler("two", two));
    let running = Running::start(router).await;
    EventBus::new(broker.publisher(), Topics::one("events")).publish(&RoomBooked { room: 7 }).await.unwrap();
    running.handled("one", 1).await;
    running.handled("two", 1).await;
    let groups = running.control.handlers().into_iter().map(|status| status.info.group.unwrap());
    assert_eq!(groups.collect::<Vec<_>>(), ["one", "two"]);
    running.stop().await;
    let mut lines = log.lines();
    lines.sort();
    assert_eq!(lines, ["one 7", "two 7"]);
}

#[tokio::test]
async fn groups_are_named_by_a_function_or_left_to_the_subscriber() {
    async fn handle(_: RoomBooked) {}
    let broker = MemoryBroker::new();
    let events = EventProcessor::new(broker.subscriber().group("shared"), Topics::one("events"));
    let named = events.clone().groups(|handler| format!("hotel.{handler}")).handler("named", handle);
    let kept = events.keep_group().handler("kept", handle);
    let running = Running::start(Router::new().add(named).add(kept)).await;
    let groups = running.control.handlers().into_iter().map(|status| status.info.group);
    assert_eq!(groups.collect::<Vec<_>>(), [None, Some("hotel.named".to_owned())]);
    running.stop().await;
}

#[tokio::test]
async fn other_names_are_skipped_where_names_share_a_topic_and_refused_where_they_do_not() {
    async fn handle(_: RoomBooked) {}
    let cases = [
        (Topics::one("in"), None, true),
        (Topics::listed().with("RoomBooked", "in").with("BookingCancelled", "in"), None, true),
        (Topics::from_fn(|_| Some("in".to_owned())), None, false),
        (Topics::one("elsewhere").with("RoomBooked", "in"), None, false),
        (Topics::one("in"), Some(UnknownName::Refuse), false),
        (Topics::from_fn(|_| Some("in".to_owned())), Some(UnknownName::Skip), true),
    ];
    for (topics, unknown, is_skipped) in cases {
        let broker = MemoryBroker::new();
        let events = EventProcessor::new(broker.subscriber(), topics);
        let events = match unknown {
            Some(unknown) => events.unknown(unknown),
            None => events,
        };
        let handler = events.handler("booked", handle).on_failure(FailurePolicy::retry(0).then_drop());
        let running = Running::start(Router::new().add(handler)).await;
        let other = Marshaler::json().marshal(&BookingCancelled { room: 7 }).unwrap();
        for message in [other, Message::new("{}")] {
            broker.publisher().publish_one("in", message).await.unwrap();
        }
        running.handled("booked", 2).await;
        let report = running.stop().await;
        let dropped = report.handler("booked").unwrap().counts.dropped;
        assert_eq!(dropped, if is_skipped { 0 } else { 2 }, "{unknown:?}");
    }
}

#[tokio::test]
async fn a_payload_that_is_not_what_its_name_says_fails_for_good() {
    async fn handle(_: RoomBooked) {}
    let broker = MemoryBroker::new();
    let events = EventProcessor::new(broker.subscriber(), Topics::one("in"));
    let policy = FailurePolicy::retry(5).then_dead_letter(broker.publisher(), "dead");
    let running =
        Running::start(Router::new().add(events.handler("booked", handle).on_failure(policy))).await;
    let broken = Message::new("{").with_metadata("name", "RoomBooked");
    broker.publisher().publish_one("in", broken).await.unwrap();
    running.handled("booked", 1).await;
    let report = running.stop().await;
    let counts = report.handler("booked").unwrap().counts;
    assert_eq!((counts.dead_lettered, counts.retried), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_command_whose_handler_has_failed_comes_again_unless_errors_are_ignored() {
    async fn handle(_: BookRoom, State(log): State<Log>) -> Result<(), BoxError> {
        log.note("tried");
        match log.lines().len() {
            1 => Err("the power is gone".into()),
            _ => Ok(()),
        }
    }
    for (ignored, tries) in [(false, 2), (true, 1)] {
        let (broker, log) = (MemoryBroker::new(), Log::default());
        let layer = ServiceBuilder::new().option_layer(ignored.then(|| IgnoreErrors::when(|_| true)));
        let router =
            Router::new().with_state(log.clone()).add(commands(&broker).handler("book", handle).layer(layer));
        let running = Running::start(router).await;
        command_bus(&broker).send(&book(7)).await.unwrap();
        running.handled("book", 1).await;
        running.stop().await;
        assert_eq!(log.lines().len(), tries);
    }
}

#[tokio::test]
async fn an_event_that_was_called_differently_before_is_read_too() {
    async fn handle(event: RoomBooked, State(log): State<Log>) {
        log.note(event.room.to_string());
    }
    let (broker, log) = (MemoryBroker::new(), Log::default());
    let names = Names::in_package("hotel").also::<RoomBooked>("reservations.Booked");
    let events = EventProcessor::new(broker.subscriber(), Topics::one("in"))
        .with_marshaler(Marshaler::json().names(names));
    let router = Router::new().with_state(log.clone()).add(events.handler("booked", handle));
    let running = Running::start(router).await;
    for (room, name) in [(1, "hotel.RoomBooked"), (2, "RoomBooked"), (3, "reservations.Booked")] {
        let message = Message::json(&RoomBooked { room }).unwrap().with_metadata("name", name);
        broker.publisher().publish_one("in", message).await.unwrap();
    }
    running.handled("booked", 3).await;
    running.stop().await;
    assert_eq!(log.lines(), ["1", "3"]);
}

/// What Go does in a function that is called instead of the handler, a layer does here.
#[tokio::test]
async fn a_layer_sees_each_command_before_and_after_its_handler_and_may_keep_it_from_it() {
    async fn handle(command: BookRoom, State(log): State<Log>) -> Result<(), BoxError> {
        log.note(format!("handle {}", command.room));
        if command.room == 2 { Err("it is taken".into()) } else { Ok(()) }
    }
    let (broker, log) = (MemoryBroker::new(), Log::default());
    let around = log.clone();
    let layer = layer_fn(move |service: BoxCloneService<Message, Outputs, BoxError>| {
        let log = around.clone();
        tower::service_fn(move |message: Message| {
            let (log, service) = (log.clone(), service.clone());
            async move {
                let name = message.metadata().get("name").unwrap_or_default().to_owned();
                log.note(format!("before {name}"));
                if message.metadata().get("skip").is_some() {
                    return Ok(Outputs::none());
                }
                let result = service.oneshot(message).await;
                log.note(format!("after {}", if result.is_ok() { "success" } else { "failure" }));
                result
            }
        })
    });
    let handler = commands(&broker).handler("book", handle).layer(layer).layer(BoxCloneService::layer());
    let router =
        Router::new().with_state(log.clone()).add(handler.on_failure(FailurePolicy::retry(0).then_drop()));
    let running = Running::start(router).await;
    let bus = command_bus(&broker);
    bus.send(&book(1)).await.unwrap();
    bus.send(&book(2)).await.unwrap();
    bus.send_with(&book(3), |message| _ = message.metadata_mut().insert("skip", "yes")).await.unwrap();
    running.handled("book", 3).await;
    running.stop().await;
    let expected = [
        "before BookRoom",
        "handle 1",
        "after success",
        "before BookRoom",
        "handle 2",
        "after failure",
        "before BookRoom",
    ];
    assert_eq!(log.lines(), expected);
}
