//! Who answers: a handler like any other, with a layer around it.

use std::{
    error::Error,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use serde::Serialize;
use watermill_core::{
    FailurePolicy, Handler, Json, MemoryBroker, Message, PublisherExt, Router, State, Subscriber,
    error::{BoxError, Nack},
    middleware::{Recoverer, Retry},
    request_reply::{HandlerFailed, NoResult, ReplyInboxConfig, RequestErrorKind, Responder},
};

use crate::{Hotel, NoNights, Quote, running::Running};

#[tokio::test]
async fn what_a_handler_returns_is_the_reply() {
    let hotel = Hotel::open().await;
    let running = hotel.quoting(Responder::new()).await;
    assert_eq!(hotel.inbox.request(&hotel.bus, &Quote { nights: 3 }).reply::<u32>().await.unwrap(), 240);
    running.stop().await;
}

#[tokio::test]
async fn a_handler_with_nothing_to_say_replies_that_it_is_done() {
    async fn done(_: Json<Quote>) -> Json<NoResult> {
        Json(NoResult {})
    }
    let hotel = Hotel::open().await;
    let running = hotel.answering("done", done).await;
    let reply = hotel.inbox.request(&hotel.bus, &Quote { nights: 3 }).message().await.unwrap();
    assert_eq!(reply.payload(), "{}");
    running.stop().await;
}

/// P29: what a handler has failed with is an error of its own type.
#[tokio::test]
async fn an_error_is_the_reply_too_and_the_request_is_acked() {
    let hotel = Hotel::open().await;
    let running = hotel.quoting(Responder::new()).await;
    let error = hotel.inbox.request(&hotel.bus, &Quote { nights: 0 }).reply::<u32>().await.unwrap_err();
    assert_eq!(error.kind(), RequestErrorKind::Failed);
    let failed = error.handler_failed().unwrap();
    assert_eq!(failed.text(), "nobody stays for 0 nights");
    assert_eq!(failed.details::<NoNights>(), None, "it was not asked to send them");
    assert!(watermill_core::error::find::<HandlerFailed>(&error).is_some());
    running.handled("quote", 1).await;
    running.stop().await;
}

#[tokio::test]
async fn an_error_of_a_type_that_is_sent_arrives_as_it_was() {
    let hotel = Hotel::open().await;
    let running = hotel.quoting(Responder::new().send_errors::<NoNights>()).await;
    let error = hotel.inbox.request(&hotel.bus, &Quote { nights: 0 }).reply::<u32>().await.unwrap_err();
    assert_eq!(error.handler_failed().unwrap().details(), Some(NoNights { asked: 0 }));
    running.stop().await;
}

#[tokio::test]
async fn an_error_of_any_length_and_any_characters_is_sent_as_a_text_that_every_backend_carries() {
    #[derive(Debug, Serialize)]
    struct Long(String);

    impl fmt::Display for Long {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(&self.0)
        }
    }

    impl Error for Long {}

    async fn fails(_: Quote) -> Result<Json<u32>, Long> {
        Err(Long("line\n\0".repeat(1000)))
    }
    let hotel = Hotel::open().await;
    let handler = hotel
        .commands()
        .handler("fails", fails)
        .to(hotel.broker.publisher(), "replies")
        .layer(Responder::new().send_errors::<Long>());
    let running = Running::start(Router::new().add(handler)).await;
    let error = hotel.inbox.request(&hotel.bus, &Quote { nights: 1 }).reply::<u32>().await.unwrap_err();
    let failed = error.handler_failed().unwrap();
    assert!(failed.text().starts_with("line  line  "), "{failed}");
    assert!(failed.text().len() <= 1024 && !failed.text().contains(char::is_control), "{failed}");
    assert_eq!(failed.details::<String>(), None, "they are too long");
    running.stop().await;
}

/// P28: a command that nobody waits for.
#[tokio::test]
async fn what_is_no_request_is_handled_once_and_answers_nobody() {
    async fn count(_: Quote, State(count): State<Arc<AtomicU32>>) -> Json<u32> {
        Json(count.fetch_add(1, Ordering::Relaxed))
    }
    let hotel = Hotel::open().await;
    let mut replies = hotel.broker.subscriber().group("observer").subscribe("replies").await.unwrap();
    let handled = Arc::new(AtomicU32::new(0));
    let handler = hotel
        .commands()
        .handler("count", count)
        .to(hotel.broker.publisher(), "replies")
        .layer(Responder::new());
    let running = Running::start(Router::new().with_state(handled.clone()).add(handler)).await;
    hotel.bus.send(&Quote { nights: 1 }).await.unwrap();
    running.handled("count", 1).await;
    running.stop().await;
    assert_eq!(handled.load(Ordering::Relaxed), 1);
    hotel.broker.publisher().publish_one("replies", Message::new("last")).await.unwrap();
    let first = futures::StreamExt::next(&mut replies).await.unwrap().unwrap();
    assert_eq!(first.payload(), "last", "there was no reply before");
    first.ack();
}

#[tokio::test]
async fn what_is_tried_again_inside_of_the_responder_is_answered_once() {
    async fn second(_: Quote, State(tries): State<Arc<AtomicU32>>) -> Result<Json<u32>, BoxError> {
        match tries.fetch_add(1, Ordering::Relaxed) {
            0 => Err("not yet".into()),
            tries => Ok(Json(tries)),
        }
    }
    let hotel = Hotel::open().await;
    let handler = hotel
        .commands()
        .handler("second", second)
        .to(hotel.broker.publisher(), "replies")
        .layer(Responder::new())
        .layer(Retry::new(1));
    let running = Running::start(Router::new().with_state(Arc::default()).add(handler)).await;
    assert_eq!(hotel.inbox.request(&hotel.bus, &Quote { nights: 1 }).reply::<u32>().await.unwrap(), 1);
    running.stop().await;
}

#[tokio::test]
async fn a_panic_is_answered_where_a_layer_makes_an_error_of_it() {
    async fn panics(_: Quote) -> Json<u32> {
        panic!("the roof is gone")
    }
    let hotel = Hotel::open().await;
    let handler = hotel
        .commands()
        .handler("panics", panics)
        .to(hotel.broker.publisher(), "replies")
        .layer(Responder::new())
        .layer(Recoverer::new());
    let running = Running::start(Router::new().add(handler)).await;
    let error = hotel.inbox.request(&hotel.bus, &Quote { nights: 1 }).reply::<u32>().await.unwrap_err();
    assert!(error.handler_failed().unwrap().text().contains("the roof is gone"), "{error:?}");
    running.stop().await;
}

#[tokio::test]
async fn an_error_that_is_not_the_requests_fault_is_not_answered_and_the_request_comes_again() {
    async fn busy(_: Quote, State(tries): State<Arc<AtomicU32>>) -> Result<Json<u32>, BoxError> {
        match tries.fetch_add(1, Ordering::Relaxed) {
            0 => Err(Nack::new("busy").into()),
            tries => Ok(Json(tries)),
        }
    }
    let hotel = Hotel::open().await;
    let handler = hotel
        .commands()
        .handler("busy", busy)
        .to(hotel.broker.publisher(), "replies")
        .on_failure(
            FailurePolicy::nack()
                .nack_backoff(watermill_core::Backoff::constant(std::time::Duration::from_millis(1))),
        )
        .layer(Responder::new());
    let running = Running::start(Router::new().with_state(Arc::default()).add(handler)).await;
    assert_eq!(hotel.inbox.request(&hotel.bus, &Quote { nights: 1 }).reply::<u32>().await.unwrap(), 1);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_process_has_replies_on_a_topic_of_its_own_if_the_responder_allows_it() {
    for (responder, is_answered) in [
        (Responder::new().to_inboxes("replies-of."), true),
        (Responder::new().to_inboxes("inbox-of."), false),
        (Responder::new(), false),
    ] {
        let hotel = Hotel::with(ReplyInboxConfig::new("replies-of.desk-3").name_topic()).await;
        let running = hotel.quoting(responder).await;
        let reply = hotel.inbox.request(&hotel.bus, &Quote { nights: 3 }).reply::<u32>().await;
        assert_eq!(reply.ok(), is_answered.then_some(240));
        running.stop().await;
    }
}

#[tokio::test]
async fn who_answers_without_having_where_to_is_refused_at_the_start() {
    async fn deaf() {}
    let broker = MemoryBroker::new();
    let nowhere =
        || Handler::new("deaf", deaf).from(broker.subscriber(), "questions").layer(Responder::new());
    let error = Router::<()>::new().add(nowhere()).run().await.unwrap_err().to_string();
    assert!(error.contains("it has no topic that they go to"), "{error}");
}
