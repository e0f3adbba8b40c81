//! From a table to a webhook: order by key is kept whatever the receiver does.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Bytes, response::IntoResponse as _, response::Response, routing::post};
use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use sqlx::{SqlitePool, sqlite::SqliteConnectOptions};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use watermill_core::{Backoff, Message, Publisher, Subscriber};
use watermill_forwarder::{DEFAULT_TOPIC, Forwarder, ForwarderConfig, ForwarderPublisher};
use watermill_http::{HttpPublisher, HttpPublisherConfig};
use watermill_sql::{SqlPublisher, SqlSubscriber, SqlSubscriberConfig};

use crate::{in_time, serve};

const KEYS: usize = 5;
const MESSAGES_OF_A_KEY: usize = 12;

/// A receiver that accepts a message only at the end of its list of troubles.
#[derive(Clone)]
struct Receiver {
    /// How often each key's next message was tried, and which it is.
    progress: Arc<Mutex<HashMap<String, (usize, usize)>>>,
    out_of_order: Arc<Mutex<Vec<String>>>,
    accepted: watch::Sender<usize>,
}

enum Trouble {
    None,
    Fails,
    Stalls,
    /// Accepts it, and then stalls: whoever waits cannot know.
    StallsAfterwards,
    IsBusy,
}

impl Receiver {
    async fn take(self, headers: HeaderMap, body: Bytes) -> Response {
        let [key, number] =
            <[_; 2]>::try_from(str::from_utf8(&body).unwrap().split('/').collect::<Vec<_>>()).unwrap();
        let number: usize = number.parse().unwrap();
        assert_eq!(headers["idempotency-key"].as_bytes(), body);
        match self.trouble(key, number) {
            Trouble::None => StatusCode::OK.into_response(),
            Trouble::Fails => StatusCode::BAD_GATEWAY.into_response(),
            Trouble::IsBusy => (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "1")]).into_response(),
            Trouble::Stalls | Trouble::StallsAfterwards => std::future::pending().await,
        }
    }

    fn trouble(&self, key: &str, number: usize) -> Trouble {
        let mut progress = self.progress.lock().unwrap();
        let (expected, tries) = progress.entry(key.to_owned()).or_default();
        if number != *expected {
            // Of what was accepted already, only the one that was in doubt may come again.
            if number + 1 != *expected {
                self.out_of_order.lock().unwrap().push(format!("{key}/{number} at {expected}"));
            }
            return Trouble::None;
        }
        *tries += 1;
        let trouble = match (number % 4, *tries) {
            (1, 1) => Trouble::Fails,
            (2, 1) => Trouble::IsBusy,
            (3, 1) => Trouble::Stalls,
            (3, 2) => Trouble::StallsAfterwards,
            _ => Trouble::None,
        };
        if matches!(trouble, Trouble::None | Trouble::StallsAfterwards) {
            (*expected, *tries) = (number + 1, 0);
            self.accepted.send_modify(|accepted| *accepted += 1);
        }
        trouble
    }
}

#[tokio::test]
async fn a_table_is_relayed_in_order_by_key_to_a_receiver_that_fails_stalls_and_is_busy() {
    let receiver =
        Receiver { progress: Arc::default(), out_of_order: Arc::default(), accepted: watch::Sender::new(0) };
    let taking = receiver.clone();
    let take = move |headers: HeaderMap, body: Bytes| taking.clone().take(headers, body);
    let address = serve(Router::new().route("/hooks/orders", post(take))).await;

    let folder = tempfile::tempdir().unwrap();
    let options = SqliteConnectOptions::new().filename(folder.path().join("shop.db")).create_if_missing(true);
    let pool = SqlitePool::connect_with(options).await.unwrap();
    let config = SqlSubscriberConfig::default().group("relay");
    let outbox = Arc::new(SqlSubscriber::new(pool.clone(), config).unwrap());
    outbox.initialize(DEFAULT_TOPIC).await.unwrap();
    for number in 0..MESSAGES_OF_A_KEY {
        let mut tx = pool.begin().await.unwrap();
        let messages = (0..KEYS).map(|key| {
            let name = format!("{key}/{number}");
            Message::with_id(name.clone(), name).with_key(key.to_string())
        });
        let publisher = ForwarderPublisher::new(SqlPublisher::in_transaction(&mut tx));
        publisher.publish("orders", messages.collect()).await.unwrap();
        drop(publisher);
        tx.commit().await.unwrap();
    }

    let config = HttpPublisherConfig::default()
        .url_of(move |topic| format!("http://{address}/hooks/{topic}"))
        .timeout(Duration::from_millis(100))
        .retry_after_max(Duration::from_millis(20));
    let webhook = Arc::new(HttpPublisher::new(config).unwrap());
    let forwarder = Forwarder::builder(outbox.clone(), webhook.clone())
        .config(ForwarderConfig::default().backoff(Backoff::constant(Duration::from_millis(5))));
    let stop = CancellationToken::new();
    let running = tokio::spawn(forwarder.build().unwrap().run_until(stop.clone().cancelled_owned()));
    let mut accepted = receiver.accepted.subscribe();
    in_time(accepted.wait_for(|accepted| *accepted == KEYS * MESSAGES_OF_A_KEY)).await.unwrap();
    stop.cancel();
    let report = in_time(running).await.unwrap().unwrap();
    assert_eq!(report.dead_lettered, 0);
    assert_eq!(*receiver.out_of_order.lock().unwrap(), [""; 0]);
    webhook.close().await.unwrap();
    outbox.close().await.unwrap();
}
