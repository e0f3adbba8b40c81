//! How the messages of a call go out.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, routing::post};
use futures::{future::join, poll};
use http::{HeaderMap, StatusCode};
use tokio::sync::Barrier;
use watermill_core::{
    Message, Publisher,
    error::{NotAccepted, PublishErrorKind},
};
use watermill_http::{HttpPublisher, HttpPublisherConfig};
use watermill_testkit::patience;

use crate::{in_time, raw::Raw, serve};

/// Which messages have arrived, and what the next ones are answered with, by their ids.
#[derive(Clone, Default)]
struct Desk {
    arrived: Arc<Mutex<Vec<String>>>,
    answers: Arc<Mutex<HashMap<String, StatusCode>>>,
}

impl Desk {
    async fn serve(&self) -> String {
        let desk = self.clone();
        let take = move |headers: HeaderMap, _: Bytes| {
            let id = headers["message-uuid"].to_str().unwrap().to_owned();
            let status = desk.answers.lock().unwrap().get(&id).copied().unwrap_or(StatusCode::OK);
            desk.arrived.lock().unwrap().push(id);
            std::future::ready(status)
        };
        format!("http://{}/", serve(Router::new().route("/", post(take))).await)
    }

    fn answer(&self, id: &str, status: u16) {
        self.answers.lock().unwrap().insert(id.to_owned(), StatusCode::from_u16(status).unwrap());
    }

    fn take_arrived(&self) -> Vec<String> {
        std::mem::take(&mut *self.arrived.lock().unwrap())
    }
}

fn keyed(key: &str, ids: &[&str]) -> Vec<Message> {
    ids.iter().map(|id| Message::with_id(*id, "x").with_key(key.to_owned())).collect()
}

#[tokio::test]
async fn behind_a_message_that_is_not_accepted_nothing_of_its_key_is_sent() {
    let desk = Desk::default();
    let url = desk.serve().await;
    let publisher = HttpPublisher::new(HttpPublisherConfig::default()).unwrap();
    desk.answer("a2", 500);
    let call = [keyed("a", &["a1", "a2", "a3"]), keyed("b", &["b1", "b2"])].concat();
    let error = in_time(publisher.publish(&url, call.clone())).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Unavailable);
    assert_eq!(*error.not_accepted(), NotAccepted::At(vec![1, 2]));
    let mut arrived = desk.take_arrived();
    arrived.sort_unstable();
    assert_eq!(arrived, ["a1", "a2", "b1", "b2"]);

    // What was not accepted again, in order.
    desk.answer("a2", 200);
    in_time(publisher.publish(&url, call[1..3].to_vec())).await.unwrap();
    assert_eq!(desk.take_arrived(), ["a2", "a3"]);
}

#[tokio::test]
async fn what_a_call_has_no_time_for_is_not_sent_and_not_accepted() {
    let budget = patience() / 2;
    let desk = Desk::default();
    let taking = desk.clone();
    let take = move |headers: HeaderMap, _: Bytes| {
        let taking = taking.clone();
        async move {
            let id = headers["message-uuid"].to_str().unwrap().to_owned();
            taking.arrived.lock().unwrap().push(id.clone());
            if id == "2" {
                // The receiver takes its time, by the clock that the publisher looks at.
                tokio::time::pause();
                tokio::time::advance(budget).await;
                tokio::time::resume();
            }
        }
    };
    let url = format!("http://{}/", serve(Router::new().route("/", post(take))).await);
    let publisher =
        HttpPublisher::new(HttpPublisherConfig::default().call_budget(budget).timeout(patience())).unwrap();
    let call = keyed("a", &["1", "2", "3", "4"]);
    let error = in_time(publisher.publish(&url, call.clone())).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (PublishErrorKind::Unavailable, true));
    assert_eq!(*error.not_accepted(), NotAccepted::At(vec![2, 3]));
    assert_eq!(desk.take_arrived(), ["1", "2"]);
    in_time(publisher.publish(&url, call[2..].to_vec())).await.unwrap();
    assert_eq!(desk.take_arrived(), ["3", "4"]);
}

#[tokio::test]
async fn where_several_fail_the_error_is_one_that_is_worth_another_try() {
    let desk = Desk::default();
    let url = desk.serve().await;
    let publisher = HttpPublisher::new(HttpPublisherConfig::default()).unwrap();
    desk.answer("1", 422);
    desk.answer("2", 503);
    let call: Vec<_> = ["0", "1", "2"].map(|id| Message::with_id(id, "x")).into();
    let error = in_time(publisher.publish(&url, call.clone())).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (PublishErrorKind::Unavailable, true));
    assert_eq!(*error.not_accepted(), NotAccepted::At(vec![1, 2]));
    desk.answer("2", 200);
    let error = in_time(publisher.publish(&url, call)).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (PublishErrorKind::Message, false));
    assert_eq!(*error.not_accepted(), NotAccepted::At(vec![1]));
}

#[tokio::test]
async fn as_many_requests_are_in_progress_at_a_host_as_allowed() {
    const AT_ONCE: usize = 4;
    // Each is answered when as many are there: fewer at once would wait for ever, and of more, the number shows.
    let (barrier, progress) = (Arc::new(Barrier::new(AT_ONCE)), Arc::new(Mutex::new((0, 0))));
    let seen = progress.clone();
    let take = move || {
        let (barrier, progress) = (barrier.clone(), progress.clone());
        async move {
            {
                let mut progress = progress.lock().unwrap();
                progress.0 += 1;
                progress.1 = progress.0.max(progress.1);
            }
            barrier.wait().await;
            progress.lock().unwrap().0 -= 1;
        }
    };
    let url = format!("http://{}/", serve(Router::new().route("/", post(take))).await);
    let config = HttpPublisherConfig::default().concurrency(AT_ONCE);
    let publisher = HttpPublisher::new(config).unwrap();
    let messages = || (0..3 * AT_ONCE).map(|_| Message::new("x")).collect();
    // Two calls, which share the bound.
    let calls = join(publisher.publish(&url, messages()), publisher.publish(&url, messages()));
    let (one, other) = in_time(calls).await;
    one.and(other).unwrap();
    assert_eq!(*seen.lock().unwrap(), (0, AT_ONCE));
}

#[tokio::test]
async fn closing_waits_for_what_is_on_its_way() {
    let server = Raw::start().await;
    let publisher = HttpPublisher::new(HttpPublisherConfig::default()).unwrap();
    let url = server.url();
    let mut published = Box::pin(publisher.publish(&url, vec![Message::new("x")]));
    let mut conversation = tokio::select! {
        conversation = in_time(server.accept()) => conversation,
        published = &mut published => panic!("{published:?}"),
    };
    let (request, _) = (conversation.request(), poll!(&mut published));
    tokio::select! {
        request = in_time(request) => assert!(request.is_some()),
        published = &mut published => panic!("{published:?}"),
    }
    let mut closing = Box::pin(publisher.close());
    assert!(poll!(&mut closing).is_pending());
    conversation.say("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    let (published, closed) = in_time(join(published, closing)).await;
    published.and(closed).unwrap();
}

#[tokio::test]
async fn a_url_is_the_topic_or_is_made_of_it_and_headers_and_an_event_are_added() {
    let seen: Arc<Mutex<Vec<(String, HeaderMap)>>> = Arc::default();
    let sink = seen.clone();
    let take = move |uri: http::Uri, headers: HeaderMap| {
        sink.lock().unwrap().push((uri.to_string(), headers));
        std::future::ready(())
    };
    let host = format!("http://{}", serve(Router::new().fallback(take)).await);
    let base = host.clone();
    for (config, topic) in [
        (HttpPublisherConfig::default(), format!("{host}/orders?a=b")),
        (HttpPublisherConfig::default().url(format!("{host}/orders?a=b")), "orders".to_owned()),
        (
            HttpPublisherConfig::default().url_of(move |topic| format!("{base}/{topic}?a=b")),
            "orders".to_owned(),
        ),
    ] {
        let config = config.header("authorization", "Bearer secret").cloud_events("/shop");
        let publisher = HttpPublisher::new(config).unwrap();
        let message = Message::with_id("1", "x").with_key("7").with_metadata("name", "OrderPlaced");
        in_time(publisher.publish(&topic, vec![message])).await.unwrap();
        let (uri, headers) = seen.lock().unwrap().pop().unwrap();
        assert_eq!(uri, "/orders?a=b");
        for (name, value) in [
            ("authorization", "Bearer secret"),
            ("idempotency-key", "1"),
            ("ce-specversion", "1.0"),
            ("ce-id", "1"),
            ("ce-source", "/shop"),
            ("ce-type", "OrderPlaced"),
            ("ce-partitionkey", "7"),
        ] {
            assert_eq!(headers[name], value, "{name}");
        }
    }
}
