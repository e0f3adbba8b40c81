//! A backend that remembers nothing: each subscription gets what is published while it lives.

mod subscriber;

pub(crate) use subscriber::FanOutSubscriber;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use tokio::sync::broadcast;
use watermill_core::{
    Message, Publisher,
    error::{PublishError, PublishErrorKind},
    publisher::PublisherCapabilities,
};

const BACKEND: &str = "fan-out";
/// How far a subscription may lag behind before it misses messages.
const CAPACITY: usize = 1_024;

/// The channels, by topic.
#[derive(Clone, Default)]
pub(crate) struct FanOut(Arc<Mutex<HashMap<String, broadcast::Sender<Message>>>>);

pub(crate) struct FanOutPublisher {
    channels: FanOut,
    closed: AtomicBool,
}

impl FanOut {
    fn channel(&self, topic: &str) -> broadcast::Sender<Message> {
        let mut channels = self.0.lock().unwrap();
        channels.entry(topic.to_owned()).or_insert_with(|| broadcast::Sender::new(CAPACITY)).clone()
    }
}

impl FanOutPublisher {
    pub(crate) fn new(channels: FanOut) -> Self {
        Self { channels, closed: AtomicBool::new(false) }
    }
}

#[async_trait]
impl Publisher for FanOutPublisher {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(PublishError::closed(topic));
        }
        if topic.is_empty() {
            return Err(PublishError::new(PublishErrorKind::Topic, topic));
        }
        if messages.iter().any(Message::asks_for_delay) {
            return Err(PublishError::new(PublishErrorKind::Unsupported, topic));
        }
        let channel = self.channels.channel(topic);
        for message in messages {
            // Nobody may be listening, which is nobody's fault.
            let _ = channel.send(message.without_context());
        }
        Ok(())
    }

    async fn close(&self) -> Result<(), PublishError> {
        self.closed.store(true, Ordering::Release);
        Ok(())
    }

    fn capabilities(&self) -> PublisherCapabilities {
        PublisherCapabilities::new(BACKEND).keeps_order(true)
    }
}
