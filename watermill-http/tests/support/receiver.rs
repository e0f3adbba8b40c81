//! [`Receiver`]: a server that takes whatever is posted to it, and remembers it.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use axum::{Router, extract::Request};
use futures::StreamExt as _;
use tokio::sync::{Mutex, OnceCell};
use watermill_core::{Message, Subscriber as _};
use watermill_http::{HttpSubscriber, HttpSubscriberConfig};

pub(crate) struct Receiver {
    address: SocketAddr,
    received: Arc<Mutex<HashMap<String, Topic>>>,
}

#[derive(Clone, Default)]
struct Topic {
    begun: Arc<OnceCell<()>>,
    messages: Arc<Mutex<Vec<Message>>>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let config = HttpSubscriberConfig::default().body_bytes_max(4 * 1024 * 1024);
        let webhooks = HttpSubscriber::new(config).expect("the config is valid");
        let received: Arc<Mutex<HashMap<String, Topic>>> = Arc::default();
        let topics = received.clone();
        let router = Router::new().fallback(move |request: Request| {
            let (webhooks, topics) = (webhooks.clone(), topics.clone());
            async move {
                let path = request.uri().path().to_owned();
                let topic = topics.lock().await.entry(path.clone()).or_default().clone();
                topic.begun.get_or_init(|| remember(&webhooks, &path, topic.messages.clone())).await;
                webhooks.receive(&path, request).await
            }
        });
        Self { address: super::serve(router).await, received }
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    pub(crate) async fn received(&self, url: &str) -> Vec<Message> {
        let path = url.rsplit_once('/').map_or_else(String::new, |(_, name)| format!("/{name}"));
        let topic = self.received.lock().await.get(&path).cloned();
        match topic {
            Some(topic) => topic.messages.lock().await.clone(),
            None => Vec::new(),
        }
    }
}

async fn remember(webhooks: &HttpSubscriber, topic: &str, messages: Arc<Mutex<Vec<Message>>>) {
    let mut subscription = webhooks.subscribe(topic).await.expect("a topic can be subscribed to");
    tokio::spawn(async move {
        while let Some(Ok(delivery)) = subscription.next().await {
            messages.lock().await.push(delivery.message().clone().without_context());
            delivery.ack();
        }
    });
}
