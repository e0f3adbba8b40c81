//! With this crate: a router with one handler that returns the message it was given.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::{sync::Notify, time::Instant};
use watermill_core::{
    Handler, Message, Publisher, Router, State, error::PublishError, publisher::PublisherCapabilities,
};
use watermill_kafka::{KafkaPublisher, KafkaPublisherConfig, KafkaSubscriber, KafkaSubscriberConfig};
use watermill_testkit::unique;

use crate::{MESSAGES, Way};

pub(crate) async fn move_all(way: &Way) -> Duration {
    let reading = KafkaSubscriberConfig::new(&way.brokers).group(unique("ours"));
    let subscriber = KafkaSubscriber::new(reading).expect("a valid config");
    let publisher = KafkaPublisher::new(KafkaPublisherConfig::new(&way.brokers)).expect("a valid config");
    let clock = Arc::new(Clock::default());
    let handler = Handler::new("move", pass)
        .from(subscriber, &*way.from)
        .to(Counting { publisher, clock: clock.clone() }, &*way.to);
    let router = Router::new().with_state(clock.clone()).add(handler);
    let done = clock.clone();
    router.run_until(async move { done.done.notified().await }).await.expect("a clean end");
    clock.took()
}

async fn pass(State(clock): State<Arc<Clock>>, message: Message) -> Message {
    clock.first.get_or_init(Instant::now);
    message
}

/// From the first message that is handled to the report of the last one.
#[derive(Default)]
struct Clock {
    first: OnceLock<Instant>,
    last: OnceLock<Instant>,
    accepted: AtomicUsize,
    done: Notify,
}

impl Clock {
    fn accepted(&self, messages: usize) {
        if self.accepted.fetch_add(messages, Ordering::Relaxed) + messages == MESSAGES {
            let _ = self.last.set(Instant::now());
            self.done.notify_one();
        }
    }

    fn took(&self) -> Duration {
        self.last.get().zip(self.first.get()).map(|(last, first)| *last - *first).expect("all were moved")
    }
}

/// Counts what was accepted.
struct Counting {
    publisher: KafkaPublisher,
    clock: Arc<Clock>,
}

#[async_trait]
impl Publisher for Counting {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        let count = messages.len();
        self.publisher.publish(topic, messages).await?;
        self.clock.accepted(count);
        Ok(())
    }

    async fn close(&self) -> Result<(), PublishError> {
        self.publisher.close().await
    }

    fn capabilities(&self) -> PublisherCapabilities {
        self.publisher.capabilities()
    }
}
