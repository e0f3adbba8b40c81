//! What browsers get.

use std::time::Duration;

use axum::{body::Body, response::Response};
use futures::poll;
use http::StatusCode;
use http_body_util::BodyExt as _;
use watermill_core::{MemoryBroker, Message, Publisher, PublisherExt as _};
use watermill_http::{EventStream, EventStreamConfig};

use crate::in_time;

async fn start(broker: &MemoryBroker, config: EventStreamConfig) -> EventStream {
    EventStream::start(&broker.subscriber(), "prices", config).await.unwrap()
}

/// A browser that has seen that it is connected.
async fn connect(events: &EventStream) -> Body {
    let response = events.connect();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    assert_eq!(next(&mut body).await.unwrap(), ": connected\n\n");
    body
}

/// It is told when to come again. Whatever else than a stream that ends it got, it would not.
async fn comes_again(response: Response) {
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    assert_eq!(next(&mut body).await.unwrap(), "retry: 5000\n\n");
    assert_eq!(next(&mut body).await, None);
}

/// What comes next, if the stream goes on.
async fn next(body: &mut Body) -> Option<String> {
    let frame = body.frame().await?.unwrap().into_data().unwrap();
    Some(String::from_utf8(frame.to_vec()).unwrap())
}

#[tokio::test]
async fn every_browser_gets_what_comes_while_it_is_connected() {
    let broker = MemoryBroker::new();
    let events = start(&broker, EventStreamConfig::default()).await;
    let (mut one, mut other) = (connect(&events).await, connect(&events).await);
    broker.publisher().publish_one("prices", Message::with_id("1", "a\nb")).await.unwrap();
    for browser in [&mut one, &mut other] {
        assert_eq!(in_time(next(browser)).await.unwrap(), "id: 1\ndata: a\ndata: b\n\n");
    }
    let mut late = connect(&events).await;
    drop(other);
    broker.publisher().publish_one("prices", Message::with_id("2", "c")).await.unwrap();
    for browser in [&mut one, &mut late] {
        assert_eq!(in_time(next(browser)).await.unwrap(), "id: 2\ndata: c\n\n");
    }
}

#[tokio::test(start_paused = true)]
async fn where_nothing_comes_a_heart_beats() {
    let broker = MemoryBroker::new();
    let events = start(&broker, EventStreamConfig::default().heartbeat(Duration::from_secs(20))).await;
    let mut browser = connect(&events).await;
    let begun = tokio::time::Instant::now();
    for beat in 1..=3 {
        assert_eq!(next(&mut browser).await.unwrap(), ":\n\n");
        assert!(begun.elapsed() >= Duration::from_secs(20 * beat));
    }
}

#[tokio::test]
async fn a_browser_that_is_too_far_behind_is_disconnected_and_holds_up_nobody() {
    let broker = MemoryBroker::new();
    let events = start(&broker, EventStreamConfig::default().lag_max(4)).await;
    let (mut slow, mut quick) = (connect(&events).await, connect(&events).await);
    for n in 0..20 {
        broker.publisher().publish_one("prices", Message::with_id(n.to_string(), "x")).await.unwrap();
        assert_eq!(in_time(next(&mut quick)).await.unwrap(), format!("id: {n}\ndata: x\n\n"));
    }
    assert_eq!(in_time(next(&mut slow)).await, None);
    // It may connect again.
    let mut again = connect(&events).await;
    broker.publisher().publish_one("prices", Message::with_id("20", "x")).await.unwrap();
    assert_eq!(in_time(next(&mut again)).await.unwrap(), "id: 20\ndata: x\n\n");
}

#[tokio::test]
async fn with_the_subscription_the_streams_of_all_browsers_end() {
    let broker = MemoryBroker::new();
    let events = start(&broker, EventStreamConfig::default()).await;
    let mut browser = connect(&events).await;
    {
        let mut ends = Box::pin(next(&mut browser));
        assert!(poll!(&mut ends).is_pending());
        in_time(events.close()).await;
        assert_eq!(in_time(ends).await, None);
    }
    comes_again(events.connect()).await;

    let events = start(&broker, EventStreamConfig::default()).await;
    let mut browser = connect(&events).await;
    drop(events);
    assert_eq!(in_time(next(&mut browser)).await, None);
    broker.publisher().close().await.unwrap();
}

#[tokio::test]
async fn no_more_browsers_are_served_than_allowed() {
    let broker = MemoryBroker::new();
    let events = start(&broker, EventStreamConfig::default().browsers_max(1)).await;
    let browser = connect(&events).await;
    comes_again(events.connect()).await;
    drop(browser);
    drop(connect(&events).await);
}
