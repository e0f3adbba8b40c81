//! What a route answers, and what becomes of a delivery whose caller has gone.

use std::{
    task::Poll,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{Router, body::Body, extract::Request, response::Response};
use futures::{StreamExt as _, poll, stream};
use http::{StatusCode, header::RETRY_AFTER};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use watermill_core::{
    Delivery, Message, Publisher, Subscriber, Subscription, Window,
    delivery::Outcome,
    error::{Delayed, PublishErrorKind, SettleErrorKind, chain, find},
};
use watermill_http::{HttpPublisher, HttpPublisherConfig, HttpSubscriber, HttpSubscriberConfig, Secret};

use crate::{in_time, serve};

const TOPIC: &str = "orders.placed";

fn webhooks(config: HttpSubscriberConfig) -> HttpSubscriber {
    HttpSubscriber::new(config).unwrap()
}

fn default() -> HttpSubscriber {
    webhooks(HttpSubscriberConfig::default())
}

fn request(id: &str) -> Request {
    Request::post("/").header("message-uuid", id).body(Body::from("x")).unwrap()
}

async fn next(subscription: &mut Subscription) -> Delivery {
    in_time(subscription.next()).await.expect("the stream goes on").expect("there is no error")
}

fn retry_after(response: &Response) -> Option<&str> {
    response.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_request_is_answered_when_its_message_is_settled() {
    let webhooks = default();
    let mut subscription = webhooks.subscribe(TOPIC).await.unwrap();
    let nack = |millis| Outcome::Nack { delay: Duration::from_millis(millis) };
    for (outcome, status, seconds) in [
        (Outcome::Ack, 200, None),
        (nack(0), 500, None),
        (nack(1_001), 500, Some("2")),
        (Outcome::Nack { delay: Duration::MAX }, 500, Some("18446744073709551615")),
        (Outcome::Reject { reason: "secret".to_owned() }, 422, None),
    ] {
        let mut answer = Box::pin(webhooks.receive(TOPIC, request("1")));
        assert!(poll!(&mut answer).is_pending());
        let delivery = next(&mut subscription).await;
        assert_eq!((delivery.id().as_str(), delivery.payload().as_ref()), ("1", &b"x"[..]));
        assert!(poll!(&mut answer).is_pending());
        let (settled, answer) =
            in_time(futures::future::join(delivery.settle_confirmed(outcome), answer)).await;
        settled.unwrap();
        assert_eq!((answer.status().as_u16(), retry_after(&answer)), (status, seconds));
    }
    subscription.close().await.unwrap();
}

#[tokio::test]
async fn without_a_subscription_or_room_a_request_is_to_come_again() {
    let webhooks =
        webhooks(HttpSubscriberConfig::default().requests_max(1).retry_after(Duration::from_secs(7)));
    let answer = in_time(webhooks.receive(TOPIC, request("1"))).await;
    assert_eq!((answer.status(), retry_after(&answer)), (StatusCode::SERVICE_UNAVAILABLE, None));

    let subscription = webhooks.subscribe(TOPIC).await.unwrap();
    let mut held = Box::pin(webhooks.receive(TOPIC, request("1")));
    assert!(poll!(&mut held).is_pending());
    let answer = in_time(webhooks.receive(TOPIC, request("2"))).await;
    assert_eq!((answer.status(), retry_after(&answer)), (StatusCode::SERVICE_UNAVAILABLE, Some("7")));
    subscription.close().await.unwrap();
    let answer = in_time(held).await;
    assert_eq!((answer.status(), retry_after(&answer)), (StatusCode::SERVICE_UNAVAILABLE, None));
    // The room is free again.
    assert_eq!(webhooks.status().len(), 0);
    let _subscription = webhooks.subscribe(TOPIC).await.unwrap();
    assert!(poll!(Box::pin(webhooks.receive(TOPIC, request("3")))).is_pending());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_refused_and_nobody_hears_of_it() {
    let webhooks = webhooks(HttpSubscriberConfig::default().body_bytes_max(10));
    let mut subscription = webhooks.subscribe(TOPIC).await.unwrap();
    let post =
        |name: &str, value: &str, body: Body| Request::post("/").header(name, value).body(body).unwrap();
    let chunks = || Body::from_stream(stream::iter([Ok::<_, std::io::Error>("123456"), Ok("789012")]));
    let cut_off = Body::from_stream(stream::iter([Ok("1"), Err(std::io::Error::other("gone"))]));
    let never = Body::from_stream(stream::pending::<Result<&str, std::io::Error>>());
    for (request, status) in [
        (post("message-metadata", "{", Body::from("x")), 400),
        (post("message-metadata", "{\"a\":1}", Body::from("x")), 400),
        (post("content-length", "11", Body::from("x")), 413),
        (post("a", "b", chunks()), 413),
        (post("a", "b", cut_off), 400),
        (post("a", "b", never), 408),
    ] {
        assert_eq!(webhooks.receive(TOPIC, request).await.status().as_u16(), status);
    }
    assert!(poll!(subscription.next()).is_pending());
}

#[tokio::test]
async fn a_delivery_whose_caller_has_gone_is_not_begun_and_others_are() {
    let webhooks = default();
    let mut subscription = webhooks.subscribe(TOPIC).await.unwrap();
    let mut gone = Box::pin(webhooks.receive(TOPIC, request("1")));
    let mut stays = Box::pin(webhooks.receive(TOPIC, request("2")));
    assert!(poll!(&mut gone).is_pending() && poll!(&mut stays).is_pending());
    drop(gone);
    let delivery = next(&mut subscription).await;
    assert_eq!(delivery.id(), "2");
    delivery.ack();
    assert_eq!(in_time(stays).await.status(), StatusCode::OK);
    assert!(poll!(subscription.next()).is_pending());
}

#[tokio::test]
async fn a_caller_who_hangs_up_has_lost_a_delivery_that_was_begun() {
    let webhooks = default();
    let address = serve(Router::new().route("/", webhooks.route(TOPIC))).await;
    let mut subscription = webhooks.subscribe(TOPIC).await.unwrap();
    let mut caller = TcpStream::connect(address).await.unwrap();
    caller.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx").await.unwrap();
    let delivery = next(&mut subscription).await;
    let cancellation = delivery.cancellation();
    assert!(!cancellation.is_cancelled());
    drop(caller);
    in_time(cancellation.cancelled()).await;
    assert!(delivery.is_lost());
    assert_eq!(delivery.ack_confirmed().await.unwrap_err().kind(), SettleErrorKind::Lost);

    // It has left its place to the next one.
    let mut caller = TcpStream::connect(address).await.unwrap();
    caller.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx").await.unwrap();
    next(&mut subscription).await.ack_confirmed().await.unwrap();
    let mut answer = [0; 15];
    in_time(caller.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_takes_too_long_is_lost_and_to_come_again() {
    let webhooks = webhooks(HttpSubscriberConfig::default().answer_timeout(Duration::from_secs(5)));
    let mut subscription = webhooks.subscribe(TOPIC).await.unwrap();
    let mut answer = Box::pin(webhooks.receive(TOPIC, request("1")));
    assert!(poll!(&mut answer).is_pending());
    let delivery = next(&mut subscription).await;
    let answer = answer.await;
    assert_eq!((answer.status(), retry_after(&answer)), (StatusCode::SERVICE_UNAVAILABLE, None));
    assert!(delivery.is_lost() && delivery.cancellation().is_cancelled());
    assert_eq!(delivery.ack_confirmed().await.unwrap_err().kind(), SettleErrorKind::Lost);
}

#[tokio::test]
async fn a_graceful_stop_answers_what_is_begun_when_it_is_done_and_the_rest_at_once() {
    let webhooks = default();
    let mut subscription = webhooks.subscribe(TOPIC).await.unwrap();
    let mut begun = Box::pin(webhooks.receive(TOPIC, request("1")));
    let mut waiting = Box::pin(webhooks.receive(TOPIC, request("2")));
    assert!(poll!(&mut begun).is_pending() && poll!(&mut waiting).is_pending());
    let delivery = next(&mut subscription).await;
    subscription.stop_intake();
    assert_eq!(in_time(waiting).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    let late = in_time(webhooks.receive(TOPIC, request("3"))).await;
    assert_eq!(late.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(poll!(&mut begun).is_pending());
    delivery.ack();
    assert_eq!(in_time(begun).await.status(), StatusCode::OK);
    subscription.close().await.unwrap();
}

#[tokio::test]
async fn a_topic_without_a_subscription_holds_back_no_other_of_its_host() {
    let webhooks = default();
    let mut subscription = webhooks.subscribe(TOPIC).await.unwrap();
    let routes = Router::new().route("/gone", webhooks.route("gone")).route("/", webhooks.route(TOPIC));
    let host = format!("http://{}", serve(routes).await);
    let publisher =
        HttpPublisher::new(HttpPublisherConfig::default().url_of(move |path| format!("{host}{path}")));
    let publisher = publisher.unwrap();
    let error = in_time(publisher.publish("/gone", vec![Message::new("x")])).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Unavailable);
    assert!(find::<Delayed>(&error).is_none(), "{error:?}");
    let acking = async { next(&mut subscription).await.ack() };
    in_time(futures::future::join(publisher.publish("/", vec![Message::new("x")]), acking)).await.0.unwrap();
}

#[tokio::test]
async fn a_subscription_that_was_stopped_ends_when_the_last_caller_has_gone() {
    let webhooks = default();
    let mut subscription = webhooks.subscribe(TOPIC).await.unwrap();
    let mut answer = Box::pin(webhooks.receive(TOPIC, request("1")));
    assert!(poll!(&mut answer).is_pending());
    let delivery = next(&mut subscription).await;
    subscription.stop_intake();
    // Its task has looked, and sleeps.
    assert!(in_time(subscription.next()).await.is_none());
    tokio::task::yield_now().await;
    assert_eq!(webhooks.status().len(), 1);
    drop(answer);
    assert!(delivery.is_lost());
    in_time(async {
        while !webhooks.status().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_in_hand_of_a_subscription_that_is_dropped_is_nacked() {
    let webhooks = default();
    let mut subscription = webhooks.subscribe(TOPIC).await.unwrap();
    let mut begun = Box::pin(webhooks.receive(TOPIC, request("1")));
    let mut waiting = Box::pin(webhooks.receive(TOPIC, request("2")));
    assert!(poll!(&mut begun).is_pending() && poll!(&mut waiting).is_pending());
    let delivery = next(&mut subscription).await;
    drop(subscription);
    assert_eq!(in_time(begun).await.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(in_time(waiting).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(delivery.is_lost());
}

#[tokio::test]
async fn subscriptions_to_a_topic_share_its_requests_and_a_failure_gives_back_no_other() {
    let webhooks = default();
    let mut subscriptions = Vec::new();
    for _ in 0..2 {
        subscriptions.push(webhooks.subscribe(TOPIC).await.unwrap());
    }
    let mut answers: Vec<_> =
        ["1", "2", "3", "4"].map(|id| Box::pin(webhooks.receive(TOPIC, request(id)))).into();
    for answer in &mut answers {
        assert!(poll!(answer).is_pending());
    }
    for subscription in &mut subscriptions {
        // In the narrowest window, which is an ordered one.
        subscription.set_window(Window::ONE);
        next(subscription).await.nack();
        next(subscription).await.ack();
        assert!(poll!(subscription.next()).is_pending());
    }
    let mut statuses = Vec::new();
    for answer in answers {
        statuses.push(in_time(answer).await.status().as_u16());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 500, 500]);
}

#[tokio::test]
async fn only_what_is_signed_with_a_known_secret_just_now_comes_in() {
    let secrets: Vec<Secret> = ["AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB", "AgICAgICAgICAgICAgICAgICAgICAgIC"]
        .map(|secret| format!("whsec_{secret}").parse().unwrap())
        .into();
    let webhooks = webhooks(HttpSubscriberConfig::default().verify_with(secrets[..1].to_vec()));
    let address = serve(Router::new().route("/hooks", webhooks.route(TOPIC))).await;
    let mut subscription = webhooks.subscribe(TOPIC).await.unwrap();
    let url = format!("http://{address}/hooks");
    let publish = async |config: HttpPublisherConfig| {
        let message = Message::with_id("1", "x").with_key("7");
        HttpPublisher::new(config).unwrap().publish(&url, vec![message]).await
    };
    let config = HttpPublisherConfig::default;
    for config in [config(), config().sign_with(secrets[1..].to_vec())] {
        let error = in_time(publish(config)).await.unwrap_err();
        assert_eq!(error.kind(), PublishErrorKind::Refused);
        assert!(chain(&error).contains("401"), "{error}");
    }
    for secrets in [&secrets[..1], &secrets] {
        let taking = async { next(&mut subscription).await };
        let acking = async {
            let delivery = taking.await;
            assert_eq!((delivery.id().as_str(), delivery.key().unwrap().as_ref()), ("1", &b"7"[..]));
            delivery.ack();
        };
        let published = publish(config().sign_with(secrets.to_vec()));
        in_time(futures::future::join(published, acking)).await.0.unwrap();
    }

    // As whoever has seen a request of long ago would send it.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let stale = Request::post("/")
        .header("webhook-id", "1")
        .header("webhook-timestamp", now - 3600)
        .header("webhook-signature", "v1,AAAA")
        .body(Body::from("x"))
        .unwrap();
    assert_eq!(webhooks.receive(TOPIC, stale).await.status(), StatusCode::UNAUTHORIZED);
    assert!(poll!(subscription.next()).is_pending());
}

#[tokio::test]
async fn who_sends_without_a_signature_takes_no_room_from_those_who_have_one() {
    let secret: Secret = "whsec_AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB".parse().unwrap();
    let webhooks = webhooks(HttpSubscriberConfig::default().requests_max(1).verify_with([secret.clone()]));
    let mut subscription = webhooks.subscribe(TOPIC).await.unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let zeros = format!("v1,{}=", "A".repeat(43));
    let never = || Body::from_stream(stream::pending::<Result<&str, std::io::Error>>());
    let unsigned = |time: u64, signature: &str| {
        let request = Request::post("/").header("webhook-id", "1").header("webhook-timestamp", time);
        request.header("webhook-signature", signature).body(never()).unwrap()
    };
    // Whose body is not waited for.
    for request in [
        Request::post("/").body(never()).unwrap(),
        unsigned(now - 3600, &zeros),
        unsigned(now, ""),
        unsigned(now, "v1,AAAA"),
        unsigned(now, &zeros.replacen("v1", "v2", 1)),
    ] {
        let answer = Box::pin(webhooks.receive(TOPIC, request));
        let Poll::Ready(answer) = poll!(answer) else { panic!("it is answered at once") };
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    }
    // One that looks signed is known by its body alone.
    let mut forged = Box::pin(webhooks.receive(TOPIC, unsigned(now, &zeros)));
    assert!(poll!(&mut forged).is_pending());
    assert_eq!(webhooks.receive(TOPIC, unsigned(now, "")).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(
        webhooks.receive(TOPIC, unsigned(now, &zeros)).await.status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert!(poll!(subscription.next()).is_pending());
}

#[tokio::test]
async fn a_route_takes_nothing_but_posts() {
    let webhooks = default();
    let address = serve(Router::new().route("/", webhooks.route(TOPIC))).await;
    let mut caller = TcpStream::connect(address).await.unwrap();
    caller.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    in_time(caller.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 405");
}
