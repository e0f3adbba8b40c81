//! Groups: several types on one subscription, in order.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use watermill_core::{
    FailurePolicy, MemoryBroker, Message, Outputs, Router, State,
    backoff::Backoff,
    cqrs::{EventBus, EventProcessor, Topics, UnknownName},
    error::BoxError,
    middleware::Retry,
    router::To,
};
use watermill_testkit::RecordingPublisher;

use crate::{BookRoom, BookingCancelled, Log, RoomBooked, refusal, running::Running};

fn events(broker: &MemoryBroker) -> EventProcessor {
    EventProcessor::new(broker.subscriber(), Topics::one("events"))
}

async fn publish(broker: &MemoryBroker, rooms: impl IntoIterator<Item = u32>) {
    let bus = EventBus::new(broker.publisher(), Topics::one("events"));
    for room in rooms {
        bus.publish(&RoomBooked { room }).await.unwrap();
        bus.publish(&BookingCancelled { room }).await.unwrap();
    }
}

async fn booked(event: RoomBooked, State(log): State<Log>) {
    log.note(format!("booked {}", event.room));
}

async fn cancelled(event: BookingCancelled, State(log): State<Log>) {
    log.note(format!("cancelled {}", event.room));
}

#[tokio::test]
async fn events_of_several_types_come_in_their_order() {
    let (broker, log) = (MemoryBroker::new(), Log::default());
    let group = events(&broker).group("report").on(booked).on(cancelled).handler();
    let running = Running::start(Router::new().with_state(log.clone()).add(group)).await;
    publish(&broker, 0..50).await;
    running.handled("report", 100).await;
    running.stop().await;
    let expected = (0..50).flat_map(|room| [format!("booked {room}"), format!("cancelled {room}")]);
    assert_eq!(log.lines(), expected.collect::<Vec<_>>());
}

#[tokio::test]
async fn functions_of_one_type_are_called_in_turn_and_all_again_when_one_has_failed() {
    async fn first(event: RoomBooked, State(log): State<Log>) {
        log.note(format!("first {}", event.room));
    }
    async fn second(event: RoomBooked, State(log): State<Log>) -> Result<(), BoxError> {
        log.note(format!("second {}", event.room));
        match log.lines().len() {
            2 => Err("not yet".into()),
            _ => Ok(()),
        }
    }
    async fn third(event: RoomBooked, State(log): State<Log>) {
        log.note(format!("third {}", event.room));
    }
    let (broker, log) = (MemoryBroker::new(), Log::default());
    let group = events(&broker)
        .group("report")
        .on(first)
        .on(second)
        .on(third)
        .unknown(UnknownName::Skip)
        .handler()
        .on_failure(FailurePolicy::retry(1).backoff(Backoff::constant(Duration::ZERO)));
    let running = Running::start(Router::new().with_state(log.clone()).add(group)).await;
    publish(&broker, [7]).await;
    running.handled("report", 2).await;
    running.stop().await;
    assert_eq!(log.lines(), ["first 7", "second 7", "first 7", "second 7", "third 7"]);
}

#[tokio::test]
async fn a_layer_around_one_function_leaves_the_other_types_alone() {
    static TRIES: AtomicU32 = AtomicU32::new(0);
    async fn flaky(event: RoomBooked, State(log): State<Log>) -> Result<(), BoxError> {
        log.note(format!("booked {}", event.room));
        if TRIES.fetch_add(1, Ordering::Relaxed) == 0 { Err("not yet".into()) } else { Ok(()) }
    }
    async fn hopeless(event: BookingCancelled, State(log): State<Log>) -> Result<(), BoxError> {
        log.note(format!("cancelled {}", event.room));
        Err("never".into())
    }
    let (broker, log) = (MemoryBroker::new(), Log::default());
    let retry = Retry::new(1).backoff(Backoff::constant(Duration::ZERO));
    let group = events(&broker)
        .group("report")
        .on_layered(retry, flaky)
        .on(hopeless)
        .handler()
        .on_failure(FailurePolicy::retry(0).then_drop());
    let running = Running::start(Router::new().with_state(log.clone()).add(group)).await;
    publish(&broker, [7]).await;
    running.handled("report", 2).await;
    let report = running.stop().await;
    assert_eq!(report.handler("report").unwrap().counts.dropped, 1);
    assert_eq!(log.lines(), ["booked 7", "booked 7", "cancelled 7"]);
}

#[tokio::test]
async fn a_name_that_no_function_handles_is_refused_unless_it_is_to_be_skipped() {
    for (unknown, dropped) in [(UnknownName::Refuse, 1), (UnknownName::Skip, 0)] {
        let (broker, log) = (MemoryBroker::new(), Log::default());
        let group = events(&broker)
            .group("report")
            .on(booked)
            .unknown(unknown)
            .handler()
            .on_failure(FailurePolicy::retry(0).then_drop());
        let running = Running::start(Router::new().with_state(log.clone()).add(group)).await;
        publish(&broker, [7]).await;
        running.handled("report", 2).await;
        let report = running.stop().await;
        assert_eq!(report.handler("report").unwrap().counts.dropped, dropped);
        assert_eq!(log.lines(), ["booked 7"]);
    }
}

#[tokio::test]
async fn a_group_on_several_topics_or_without_functions_is_refused() {
    let broker = MemoryBroker::new();
    let apart = EventProcessor::new(broker.subscriber(), Topics::by_name());
    let group = apart.group("report").on(booked).on(cancelled).handler();
    let text = refusal(Router::new().with_state(Log::default()).add(group)).await;
    assert!(text.contains("its types lie on BookingCancelled, RoomBooked"), "{text}");
    let empty = apart.group::<(), watermill_core::router::types::Nothing>("report").handler();
    let text = refusal(Router::new().add(empty)).await;
    assert!(text.contains("it has no functions"), "{text}");
}

#[tokio::test]
async fn what_the_functions_of_a_group_return_is_published() {
    async fn booked(event: RoomBooked) -> To<&'static str, Message> {
        To("welcome", Message::new(event.room.to_string()))
    }
    async fn booked_too(event: RoomBooked) -> To<&'static str, Message> {
        To("keys", Message::new(event.room.to_string()))
    }
    async fn asked(command: BookRoom) -> To<&'static str, Message> {
        To("answers", Message::new(command.guest))
    }
    let (broker, published) = (MemoryBroker::new(), RecordingPublisher::new());
    let group = events(&broker)
        .group("desk")
        .on(booked)
        .on(asked)
        .on(booked_too)
        .unknown(UnknownName::Skip)
        .handler()
        .to_topics(published.clone());
    let running = Running::start(Router::new().add(group)).await;
    publish(&broker, [7]).await;
    running.handled("desk", 2).await;
    running.stop().await;
    for topic in ["welcome", "keys"] {
        assert_eq!(published.published(topic)[0].payload(), "7");
    }
}

#[tokio::test]
async fn a_message_waits_for_the_layer_of_its_own_function_and_for_no_other() {
    use tower::limit::ConcurrencyLimitLayer;

    async fn slow(event: RoomBooked, State(log): State<Log>) {
        log.note(format!("booked {}", event.room));
        while !log.lines().contains(&"cancelled 1".to_owned()) {
            tokio::task::yield_now().await;
        }
    }
    let (broker, log) = (MemoryBroker::new(), Log::default());
    let group = events(&broker)
        .group("report")
        .on_layered(ConcurrencyLimitLayer::new(1), slow)
        .on(cancelled)
        .handler()
        .concurrency(4);
    let running = Running::start(Router::new().with_state(log.clone()).add(group)).await;
    // The second booking has to wait for the first, and the cancellations for neither.
    let bus = EventBus::new(broker.publisher(), Topics::one("events"));
    for room in [1, 2] {
        bus.publish(&RoomBooked { room }).await.unwrap();
    }
    for room in [2, 1] {
        bus.publish(&BookingCancelled { room }).await.unwrap();
    }
    running.handled("report", 4).await;
    running.stop().await;
    assert_eq!(log.lines(), ["booked 1", "cancelled 2", "cancelled 1", "booked 2"]);
}

#[tokio::test]
async fn functions_that_share_a_limit_do_not_keep_what_they_do_not_use() {
    use tower::limit::GlobalConcurrencyLimitLayer;

    async fn booked_too(event: RoomBooked, State(log): State<Log>) {
        log.note(format!("booked {} too", event.room));
    }
    let (broker, log) = (MemoryBroker::new(), Log::default());
    let one = GlobalConcurrencyLimitLayer::new(1);
    let group = events(&broker)
        .group("report")
        .on_layered(one.clone(), booked)
        .on_layered(one.clone(), booked_too)
        .on_layered(one, cancelled)
        .handler();
    let running = Running::start(Router::new().with_state(log.clone()).add(group)).await;
    publish(&broker, [7]).await;
    running.handled("report", 2).await;
    running.stop().await;
    assert_eq!(log.lines(), ["booked 7", "booked 7 too", "cancelled 7"]);
}

#[tokio::test]
async fn a_layer_around_a_group_does_not_copy_the_functions_that_it_does_not_call() {
    /// A service that is not to be copied.
    struct Single<S>(S);

    impl<S> Clone for Single<S> {
        fn clone(&self) -> Self {
            panic!("it was copied")
        }
    }

    impl<S: tower::Service<Message, Response = Outputs>> tower::Service<Message> for Single<S> {
        type Response = Outputs;
        type Error = S::Error;
        type Future = S::Future;

        fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), S::Error>> {
            self.0.poll_ready(cx)
        }

        fn call(&mut self, message: Message) -> S::Future {
            self.0.call(message)
        }
    }

    let (broker, log) = (MemoryBroker::new(), Log::default());
    let group = events(&broker)
        .group("report")
        .on(booked)
        .on_layered(tower::layer::layer_fn(Single), cancelled)
        .handler()
        .layer(Retry::new(1));
    let running = Running::start(Router::new().with_state(log.clone()).add(group)).await;
    let bus = EventBus::new(broker.publisher(), Topics::one("events"));
    for room in [1, 2] {
        bus.publish(&RoomBooked { room }).await.unwrap();
    }
    running.handled("report", 2).await;
    running.stop().await;
    assert_eq!(log.lines(), ["booked 1", "booked 2"]);
}
