//! The ways of reading with this crate.

use std::{
    hint::black_box,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use tokio::{runtime::Runtime, sync::Notify, time::Instant};
use watermill_core::{Delivery, Handler, Router, State, Subscriber as _};
use watermill_kafka::{KafkaSubscriber, KafkaSubscriberConfig};
use watermill_testkit::unique;

use crate::Source;

/// A stream of deliveries, each acked, id, metadata and payload read.
pub(crate) fn metadata(runtime: &Runtime, source: &Source) -> Duration {
    stream(runtime, source, |delivery| {
        black_box((delivery.id(), delivery.payload()));
        delivery.metadata().iter().for_each(|entry| {
            black_box(entry);
        });
    })
}

/// The same with nothing but the payload read.
pub(crate) fn payload(runtime: &Runtime, source: &Source) -> Duration {
    stream(runtime, source, |delivery| {
        black_box(delivery.payload());
    })
}

/// Through a router, to a handler that does nothing but count.
pub(crate) fn router(runtime: &Runtime, source: &Source) -> Duration {
    runtime.block_on(async {
        let counter = Arc::new(Counter::new(source.messages));
        let router = Router::new()
            .with_state(counter.clone())
            .add(Handler::new("count", count).from(subscriber(source), &*source.topic));
        let stop = counter.clone();
        router.run_until(async move { stop.done.notified().await }).await.expect("a clean end");
        counter.took()
    })
}

fn stream(runtime: &Runtime, source: &Source, look: fn(&Delivery)) -> Duration {
    runtime.block_on(async {
        let mut subscription = subscriber(source).subscribe(&source.topic).await.expect("it subscribes");
        let mut started = None;
        for _ in 0..source.messages {
            let delivery = subscription.next().await.expect("the stream goes on").expect("no error");
            started.get_or_insert_with(Instant::now);
            look(&delivery);
            delivery.ack();
        }
        let took = started.expect("there are messages").elapsed();
        subscription.close().await.expect("it closes");
        took
    })
}

fn subscriber(source: &Source) -> KafkaSubscriber {
    let config = KafkaSubscriberConfig::new(&source.brokers).group(unique("ours"));
    KafkaSubscriber::new(config).expect("a valid config")
}

async fn count(State(counter): State<Arc<Counter>>) {
    counter.count();
}

struct Counter {
    counted: AtomicUsize,
    messages: usize,
    first: OnceLock<Instant>,
    last: OnceLock<Instant>,
    done: Notify,
}

impl Counter {
    fn new(messages: usize) -> Self {
        Self {
            counted: AtomicUsize::new(0),
            messages,
            first: OnceLock::new(),
            last: OnceLock::new(),
            done: Notify::new(),
        }
    }

    fn count(&self) {
        let before = self.counted.fetch_add(1, Ordering::Relaxed);
        if before == 0 {
            let _ = self.first.set(Instant::now());
        }
        if before + 1 == self.messages {
            let _ = self.last.set(Instant::now());
            self.done.notify_one();
        }
    }

    fn took(&self) -> Duration {
        self.last.get().zip(self.first.get()).map(|(last, first)| *last - *first).expect("all were counted")
    }
}
