//! [`Sender`]: posts what it was given until it is accepted, as whoever sends webhooks does; and [`Servers`], behind one
//! address.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use axum::{Router, extract::Request, response::IntoResponse as _};
use http::StatusCode;
use tokio::{sync::Semaphore, time::sleep};
use watermill_core::{
    Message, Publisher, Subscriber as _,
    backend::{Calls, refuse_delays},
    error::{Delayed, PublishError, find},
    publisher::PublisherCapabilities,
    subscription::Health,
};
use watermill_http::{HttpPublisher, HttpPublisherConfig, HttpSubscriber, HttpSubscriberConfig};

/// How many messages a sender keeps.
pub(crate) const CAPACITY: usize = 12_000;

/// How many requests a sender has in progress.
const SENDERS: usize = 32;

/// Several subscribers behind one address, and one outbox for all that is sent to them.
#[derive(Clone)]
pub(crate) struct Servers {
    address: SocketAddr,
    subscribers: Arc<Mutex<Vec<HttpSubscriber>>>,
    outboxes: Arc<Mutex<HashMap<String, Arc<Outbox>>>>,
    posts: Arc<HttpPublisher>,
}

pub(crate) struct Sender {
    servers: Servers,
    calls: Calls,
}

struct Outbox {
    messages: Mutex<VecDeque<Message>>,
    waiting: Semaphore,
    room: Semaphore,
}

impl Servers {
    pub(crate) async fn start() -> Self {
        let subscribers: Arc<Mutex<Vec<HttpSubscriber>>> = Arc::default();
        let (all, turn) = (subscribers.clone(), Arc::new(AtomicUsize::new(0)));
        let router = Router::new().fallback(move |request: Request| {
            let (all, turn) = (all.clone(), turn.fetch_add(1, Relaxed));
            async move {
                let host = request.headers()[http::header::HOST].to_str().unwrap_or_default();
                let topic = format!("http://{host}{}", request.uri().path());
                let listening: Vec<_> =
                    lock(&all).iter().filter(|subscriber| listens(subscriber, &topic)).cloned().collect();
                match listening.len() {
                    0 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
                    of => listening[turn % of].receive(&topic, request).await,
                }
            }
        });
        let address = super::serve(router).await;
        let posts = HttpPublisher::new(HttpPublisherConfig::default().concurrency(10 * SENDERS));
        let posts = Arc::new(posts.expect("the config is valid"));
        Self { address, subscribers, outboxes: Arc::default(), posts }
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    /// One more behind the address.
    pub(crate) fn subscriber(&self) -> HttpSubscriber {
        let config = HttpSubscriberConfig::default()
            .body_bytes_max(4 * 1024 * 1024)
            // A sender tries again when it likes.
            .retry_after(Duration::ZERO);
        let subscriber = HttpSubscriber::new(config).expect("the config is valid");
        lock(&self.subscribers).push(subscriber.clone());
        subscriber
    }

    fn outbox(&self, url: &str) -> Arc<Outbox> {
        let mut outboxes = lock(&self.outboxes);
        let outbox = outboxes.entry(url.to_owned()).or_insert_with(|| {
            let (messages, waiting) = (Mutex::default(), Semaphore::new(0));
            let outbox = Arc::new(Outbox { messages, waiting, room: Semaphore::new(CAPACITY) });
            for _ in 0..SENDERS {
                tokio::spawn(outbox.clone().send(self.posts.clone(), url.to_owned()));
            }
            outbox
        });
        outbox.clone()
    }
}

fn listens(subscriber: &HttpSubscriber, topic: &str) -> bool {
    let open = subscriber.status();
    open.iter().any(|status| status.topic == topic && status.health == Health::Healthy)
}

impl Sender {
    pub(crate) fn to(servers: &Servers) -> Self {
        Self { servers: servers.clone(), calls: Calls::default() }
    }
}

impl Outbox {
    async fn send(self: Arc<Self>, posts: Arc<HttpPublisher>, url: String) {
        while let Ok(one) = self.waiting.acquire().await {
            one.forget();
            let Some(message) = lock(&self.messages).pop_front() else { continue };
            let mut pause = Duration::from_millis(1);
            while let Err(error) = posts.publish(&url, vec![message.clone()]).await {
                if !error.is_retryable() {
                    break;
                }
                // A nack with a delay says when; whoever was given back, or finds nobody, asks again soon.
                let asked = find::<Delayed>(&error).map(Delayed::delay).unwrap_or_default();
                sleep(asked.max(pause)).await;
                pause = (2 * pause).min(Duration::from_millis(50));
            }
            self.room.add_permits(1);
        }
    }
}

#[async_trait]
impl Publisher for Sender {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        let Some(_call) = self.calls.begin(topic, &messages)? else { return Ok(()) };
        refuse_delays(topic, &messages)?;
        let outbox = self.servers.outbox(topic);
        for message in messages {
            if let Ok(room) = outbox.room.acquire().await {
                room.forget();
            }
            lock(&outbox.messages).push_back(message);
            outbox.waiting.add_permits(1);
        }
        Ok(())
    }

    async fn close(&self) -> Result<(), PublishError> {
        self.calls.close().await;
        Ok(())
    }

    fn capabilities(&self) -> PublisherCapabilities {
        PublisherCapabilities::new("http")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
