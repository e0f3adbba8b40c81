//! What becomes of a message by what the receiver says, or does not say.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::{future::join, poll};
use tokio::{task::JoinSet, time::Instant};
use watermill_core::{
    Message, Publisher,
    error::{Delayed, NotAccepted, PublishError, PublishErrorKind, chain, find},
};
use watermill_http::{HttpPublisher, HttpPublisherConfig};
use watermill_testkit::patience;

use crate::{in_time, raw::Raw};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

fn publisher(config: HttpPublisherConfig) -> HttpPublisher {
    HttpPublisher::new(config).unwrap()
}

fn default() -> HttpPublisher {
    publisher(HttpPublisherConfig::default())
}

fn one() -> Vec<Message> {
    vec![Message::new("x")]
}

/// Publishes one message to a server that answers with these bytes and hangs up.
async fn answered(answer: &str) -> Result<(), PublishError> {
    let (server, publisher) = (Raw::start().await, default());
    let serving = async {
        let mut conversation = server.accept().await;
        conversation.request().await.unwrap();
        // Who has heard enough hangs up first.
        let _ = conversation.say(answer).await;
    };
    in_time(join(publisher.publish(&server.url(), one()), serving)).await.0
}

#[tokio::test]
async fn the_status_decides_what_becomes_of_a_message() {
    let answer = |status: u16| format!("HTTP/1.1 {status} x\r\ncontent-length: 5\r\n\r\nwhy\nx");
    for status in [200, 201, 202, 299] {
        answered(&answer(status)).await.unwrap();
    }
    answered("HTTP/1.1 204 x\r\n\r\n").await.unwrap();
    for (status, kind) in [
        (400, PublishErrorKind::Message),
        (401, PublishErrorKind::Refused),
        (404, PublishErrorKind::Refused),
        (408, PublishErrorKind::Unavailable),
        (413, PublishErrorKind::Message),
        (422, PublishErrorKind::Message),
        (429, PublishErrorKind::Unavailable),
        (500, PublishErrorKind::Unavailable),
        (503, PublishErrorKind::Unavailable),
    ] {
        let error = answered(&answer(status)).await.unwrap_err();
        assert_eq!((error.kind(), error.not_accepted()), (kind, &NotAccepted::All), "{status}");
        assert!(chain(&error).contains("why x"), "{error}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Raw::start().await;
    for status in [301, 302, 303, 307, 308] {
        let location = elsewhere.url();
        let redirect = format!("HTTP/1.1 {status} x\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
        let error = answered(&redirect).await.unwrap_err();
        assert_eq!(error.kind(), PublishErrorKind::Refused);
    }
    assert!(poll!(Box::pin(elsewhere.accept())).is_pending());
}

#[tokio::test]
async fn an_answer_that_is_cut_off_in_its_head_leaves_the_message_in_doubt() {
    for head in ["", "HTTP/1.1 20", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n"] {
        let error = answered(head).await.unwrap_err();
        assert_eq!(error.kind(), PublishErrorKind::Unavailable, "{head}");
        assert!(chain(&error).contains("may have arrived"), "{error}");
    }
    assert!(answered("SSH-2.0-OpenSSH\r\n").await.unwrap_err().is_retryable());
}

#[tokio::test]
async fn whatever_becomes_of_the_body_behind_it_a_status_stands() {
    // Cut off, in two ways.
    answered("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nsome").await.unwrap();
    answered("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffff\r\nsome").await.unwrap();
    let error = answered("HTTP/1.1 422 x\r\ncontent-length: 100\r\n\r\nsome").await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Message);

    // Without an end: whoever waited for it would wait for ever.
    for head in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 422 x\r\n\r\n"] {
        let (server, publisher) = (Raw::start().await, default());
        let serving = async {
            let mut conversation = server.accept().await;
            conversation.request().await.unwrap();
            conversation.say(head).await.unwrap();
            let some = vec![b'y'; 8192];
            while conversation.say(&some).await.is_ok() {}
        };
        let published = in_time(join(publisher.publish(&server.url(), one()), serving)).await.0;
        match published {
            Ok(()) => assert!(head.contains("200")),
            Err(error) => assert!(head.contains("422") && chain(&error).len() < 1_000, "{error}"),
        }
    }
}

#[tokio::test]
async fn a_body_that_never_comes_is_not_waited_for() {
    let (server, publisher) = (Raw::start().await, default());
    let mut held = None;
    let serving = async {
        let conversation = held.insert(server.accept().await);
        conversation.request().await.unwrap();
        conversation.say("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await.unwrap();
    };
    in_time(join(publisher.publish(&server.url(), one()), serving)).await.0.unwrap();
}

#[tokio::test]
async fn a_server_that_freezes_is_not_waited_for_for_ever() {
    let server = Raw::start().await;
    let url = server.url();
    let patient = |timeout| publisher(HttpPublisherConfig::default().timeout(timeout));
    // Frozen before it has accepted, so that it makes no difference how soon it is given up.
    let error = in_time(patient(Duration::from_millis(50)).publish(&url, one())).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (PublishErrorKind::Timeout, true));

    // With the request in hand, which has all the time it takes to get there: what is over is the clock's.
    let server = Raw::start().await;
    let (url, timeout) = (server.url(), patience() / 2);
    let frozen = async {
        let mut conversation = server.accept().await;
        conversation.request().await.unwrap();
        conversation.say("HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        tokio::time::pause();
        tokio::time::advance(timeout).await;
        tokio::time::resume();
        conversation
    };
    let publisher = patient(timeout);
    let (published, _held) = in_time(join(publisher.publish(&url, one()), frozen)).await;
    assert_eq!(published.unwrap_err().kind(), PublishErrorKind::Timeout);
}

#[tokio::test]
async fn a_connection_is_used_again_and_a_server_that_has_restarted_is_found() {
    const CALLS: usize = 20;
    let (server, publisher) = (Raw::start().await, default());
    let (url, connections, requests) =
        (server.url(), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = connections.clone();
    let serving = tokio::spawn(async move {
        let mut conversations = JoinSet::new();
        loop {
            let mut conversation = server.accept().await;
            connections.fetch_add(1, Relaxed);
            let requests = requests.clone();
            conversations.spawn(async move {
                while conversation.request().await.is_some() {
                    // In the middle of one, it goes away: nobody knows what became of that.
                    if requests.fetch_add(1, Relaxed) == CALLS / 2 || conversation.say(OK).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    let mut failed = Vec::new();
    for call in 0..CALLS {
        if let Err(error) = in_time(publisher.publish(&url, one())).await {
            assert!(error.is_retryable(), "{error:?}");
            failed.push(call);
        }
    }
    assert_eq!(failed, [CALLS / 2]);
    assert!(seen.load(Relaxed) < CALLS, "{} connections", seen.load(Relaxed));

    // It goes away between two, and does not come back.
    serving.abort();
    assert!(serving.await.unwrap_err().is_cancelled());
    let error = in_time(publisher.publish(&url, one())).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Unavailable);
}

#[tokio::test]
async fn a_host_that_asks_for_time_gets_it_and_others_do_not_wait() {
    let (busy, other, publisher) = (Raw::start().await, Raw::start().await, default());
    for answer in ["429 x\r\nretry-after: 30", "503 x\r\nretry-after: Sun, 06 Nov 2095 08:49:37 GMT"] {
        let publisher = default();
        let serving = async {
            let mut conversation = busy.accept().await;
            conversation.request().await.unwrap();
            conversation.say(format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n")).await.unwrap();
        };
        let error = in_time(join(publisher.publish(&busy.url(), one()), serving)).await.0.unwrap_err();
        let asked = find::<Delayed>(&error).expect("it says when to try again").delay();
        assert!(asked == Duration::from_secs(30) || asked == Duration::from_secs(60), "{asked:?}");
        let (url, asks) = (busy.url(), Instant::now() + Duration::from_millis(100));
        let held = tokio::time::timeout_at(asks, publisher.publish(&url, one())).await;
        assert!(held.is_err(), "{held:?}");
        assert!(poll!(Box::pin(busy.accept())).is_pending(), "nothing is sent meanwhile");
    }
    let serving = async {
        let mut conversation = other.accept().await;
        conversation.request().await.unwrap();
        conversation.say(OK).await.unwrap();
    };
    in_time(join(publisher.publish(&other.url(), one()), serving)).await.0.unwrap();
}

#[tokio::test]
async fn how_long_a_host_is_left_alone_has_a_bound() {
    let server = Raw::start().await;
    let publisher = publisher(HttpPublisherConfig::default().retry_after_max(Duration::ZERO));
    let url = server.url();
    let serve = async |answer: &str| {
        let mut conversation = server.accept().await;
        conversation.request().await.unwrap();
        conversation.say(answer).await.unwrap();
    };
    let busy =
        serve("HTTP/1.1 429 x\r\nretry-after: 999999999\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    let published = in_time(join(publisher.publish(&url, one()), busy)).await.0;
    assert!(published.unwrap_err().is_retryable());
    let served = serve(OK);
    in_time(join(publisher.publish(&url, one()), served)).await.0.unwrap();
}
