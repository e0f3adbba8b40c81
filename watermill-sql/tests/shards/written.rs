//! What was written, and whether it has arrived as it should.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use sqlx::Pool;
use tokio::task::JoinHandle;
use watermill_core::{
    Message, Publisher,
    error::{PublishError, PublishErrorKind},
    publisher::PublisherCapabilities,
};
use watermill_forwarder::ForwarderPublisher;
use watermill_sql::{SqlPublisher, SqlPublisherConfig};

use crate::server::Server;

/// How many messages may wait, so that writers do not run away from relays.
const AHEAD_MAX: usize = 1_000;

/// A destination that all relays share.
#[derive(Clone, Default)]
pub(crate) struct Record {
    arrived: Arc<Mutex<Vec<String>>>,
    refused: Arc<Mutex<Option<String>>>,
}

impl Record {
    pub(crate) fn arrived(&self) -> Vec<String> {
        self.arrived.lock().unwrap().clone()
    }

    /// Is away for calls with this message.
    pub(crate) fn hold(&self, payload: Option<&str>) {
        *self.refused.lock().unwrap() = payload.map(str::to_owned);
    }
}

#[async_trait]
impl Publisher for Record {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        let text = |message: &Message| String::from_utf8(message.payload().to_vec()).unwrap();
        let payloads: Vec<String> = messages.iter().map(text).collect();
        if self.refused.lock().unwrap().as_ref().is_some_and(|refused| payloads.contains(refused)) {
            return Err(PublishError::new(PublishErrorKind::Unavailable, topic));
        }
        self.arrived.lock().unwrap().extend(payloads);
        Ok(())
    }

    async fn close(&self) -> Result<(), PublishError> {
        Ok(())
    }

    fn capabilities(&self) -> PublisherCapabilities {
        PublisherCapabilities::new("record").atomic(true)
    }
}

/// Writers that write until they are asked to stop.
pub(crate) struct Writers {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicUsize>,
    arrived: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<BTreeMap<String, usize>>>,
}

impl Writers {
    /// Two of them, with four keys each and some messages without any.
    pub(crate) fn start<S: Server>(pool: &Pool<S::Database>) -> Self {
        let (stop, written, arrived) = (Arc::default(), Arc::default(), Arc::default());
        let mut writers = Self { stop, written, arrived, tasks: Vec::new() };
        for name in ["a", "b"] {
            let (stop, written) = (writers.stop.clone(), writers.written.clone());
            let (arrived, pool) = (writers.arrived.clone(), pool.clone());
            writers.tasks.push(tokio::spawn(async move {
                let outbox = SqlPublisher::new(pool, SqlPublisherConfig::default()).unwrap();
                let outbox = ForwarderPublisher::new(outbox);
                let mut random = fastrand::Rng::with_seed(u64::from(name.as_bytes()[0]));
                let mut counts: BTreeMap<String, usize> = BTreeMap::new();
                while !stop.load(Ordering::Relaxed) {
                    if written.load(Ordering::Relaxed) > arrived.load(Ordering::Relaxed) + AHEAD_MAX {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        continue;
                    }
                    let messages = (0..random.usize(1..6)).map(|_| {
                        let key = format!("{name}{}", random.u8(0..5));
                        let count = counts.entry(key.clone()).or_default();
                        // As JSON, which is what tables take by default.
                        let message = Message::new(format!("\"{key} {count}\""));
                        *count += 1;
                        // The last of the five is none.
                        if key.ends_with('4') { message } else { message.with_key(key) }
                    });
                    let messages: Vec<_> = messages.collect();
                    written.fetch_add(messages.len(), Ordering::Relaxed);
                    outbox.publish("orders", messages).await.unwrap();
                }
                counts
            }));
        }
        writers
    }

    /// So much has arrived.
    pub(crate) fn arrived(&self, count: usize) {
        self.arrived.store(count, Ordering::Relaxed);
    }

    /// How many messages each key has.
    pub(crate) async fn stop(self) -> BTreeMap<String, usize> {
        self.stop.store(true, Ordering::Relaxed);
        let mut counts = BTreeMap::new();
        for task in self.tasks {
            counts.extend(task.await.unwrap());
        }
        counts
    }
}

/// How many different messages have arrived of each key; those of a key must have come first in their order.
pub(crate) fn in_order(arrived: &[String]) -> BTreeMap<String, usize> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut unkeyed = std::collections::BTreeSet::new();
    for payload in arrived {
        let (key, number) = payload.trim_matches('"').split_once(' ').unwrap();
        let number: usize = number.parse().unwrap();
        let count = counts.entry(key.to_owned()).or_default();
        if key.ends_with('4') {
            *count += usize::from(unkeyed.insert(payload));
        } else if number >= *count {
            assert_eq!(number, *count, "of {key}, {count} was overtaken");
            *count += 1;
        }
    }
    counts
}

/// The number of different messages.
pub(crate) fn total(counts: &BTreeMap<String, usize>) -> usize {
    counts.values().sum()
}
