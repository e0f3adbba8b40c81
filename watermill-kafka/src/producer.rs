//! [`Producer`]: a client that sends, replaced when librdkafka declares it dead.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use rdkafka::{
    ClientConfig,
    error::KafkaError,
    producer::{BaseRecord, Producer as _, PurgeConfig, ThreadedProducer},
    types::RDKafkaErrorCode as Code,
};
use tokio::task;
use watermill_core::{
    Message,
    backend::{Failure, Trouble},
};

use crate::{
    error, marshaler,
    report::{Call, Reports},
    topics,
};

/// The pause before a full queue is looked at again. librdkafka does not say when it has room, and a
/// queue of its usual size holds work for a hundred times as long.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(1);

/// How long a topic is looked for before the first message to it. What is not found by then is
/// librdkafka's to wait for.
const LOOK_TIME: Duration = Duration::from_secs(2);

/// A client, and how to make another.
pub(crate) struct Producer {
    config: ClientConfig,
    client: Mutex<Arc<Client>>,
}

/// Ends on a thread of its own, since it waits for its queue and its threads.
pub(crate) struct Client(Option<ThreadedProducer<Reports>>);

impl Producer {
    pub(crate) fn new(config: ClientConfig) -> Result<Self, KafkaError> {
        let client = Mutex::new(Client::new(&config)?);
        Ok(Self { config, client })
    }

    /// Queues the messages of a call from this position on, in order, and waits for room where there is none.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it has queued the first of them, none or all; those are sent.
    pub(crate) async fn enqueue(&self, call: &Arc<Call>, topic: &str, messages: &[Message], from: usize) {
        let client = self.client();
        for (at, message) in messages.iter().enumerate().skip(from) {
            if let Err(error) = client.enqueue(call, topic, at, message).await {
                // What comes after it must not overtake it.
                call.fail(at..messages.len(), &error);
                break;
            }
        }
    }

    /// Whether the topic is there and its leaders know that they are; see [`topics::have_leaders`].
    pub(crate) async fn has_leaders(&self, topic: &str) -> bool {
        let (client, topic) = (self.client(), topic.to_owned());
        let look = move || topics::have_leaders(client.get().client(), &topic, LOOK_TIME);
        task::spawn_blocking(look).await.unwrap_or(false)
    }

    /// The same, as long as there is room: how many of them are queued.
    pub(crate) fn try_enqueue(&self, call: &Arc<Call>, topic: &str, messages: &[Message]) -> usize {
        let client = self.client();
        for (at, message) in messages.iter().enumerate() {
            match client.get().send(record(call, topic, at, message)) {
                Ok(()) => {}
                Err((KafkaError::MessageProduction(Code::QueueFull), _)) => return at,
                Err((error, _)) => {
                    call.fail(at..messages.len(), &error);
                    break;
                }
            }
        }
        messages.len()
    }

    /// Replaces a client that has failed for good, and says what was wrong with it. Whoever waits for one
    /// of its reports gets the error.
    pub(crate) fn replace_if_dead(&self) -> Option<Trouble> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let (code, reason) = client.get().client().fatal_error()?;
        tracing::error!(%code, reason, "the producer failed for good and is replaced");
        match Client::new(&self.config) {
            Ok(fresh) => {
                // Whoever waits for what it has queued is to hear of it now.
                let dead = std::mem::replace(&mut *client, fresh);
                dead.get().purge(PurgeConfig::default().queue().inflight());
            }
            Err(error) => tracing::error!(%error, "the next call tries to replace it again"),
        }
        Some(error::classify_code(code).trouble())
    }

    /// Waits until nothing is on its way, calls included that were given up by their callers.
    pub(crate) async fn flush(&self, timeout: Duration) -> Result<(), Failure> {
        let client = self.client();
        let flushed = task::spawn_blocking(move || client.get().flush(timeout)).await;
        match flushed {
            Ok(flushed) => flushed.map_err(error::classify),
            // The runtime ends, and the client flushes once more when it is dropped.
            Err(_) => Ok(()),
        }
    }

    pub(crate) fn in_flight(&self) -> i32 {
        self.client().get().in_flight_count()
    }

    fn client(&self) -> Arc<Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Client {
    pub(crate) fn new(config: &ClientConfig) -> Result<Arc<Self>, KafkaError> {
        Ok(Arc::new(Self(Some(config.create_with_context(Reports)?))))
    }

    pub(crate) fn get(&self) -> &ThreadedProducer<Reports> {
        self.0.as_ref().expect("it is there until it is dropped")
    }

    /// Queues the message at this position of a call.
    pub(crate) async fn enqueue(
        &self,
        call: &Arc<Call>,
        topic: &str,
        at: usize,
        message: &Message,
    ) -> Result<(), KafkaError> {
        self.send(record(call, topic, at, message)).await
    }

    /// Queues a record, and waits for room where there is none.
    pub(crate) async fn send(
        &self,
        mut record: BaseRecord<'_, [u8], [u8], Arc<Call>>,
    ) -> Result<(), KafkaError> {
        loop {
            match self.get().send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), again)) => {
                    record = again;
                    tokio::time::sleep(QUEUE_FULL_PAUSE).await;
                }
                Err((error, _)) => return Err(error),
            }
        }
    }
}

/// The message at this position of a call, as librdkafka takes it.
fn record<'m>(
    call: &Arc<Call>,
    topic: &'m str,
    at: usize,
    message: &'m Message,
) -> BaseRecord<'m, [u8], [u8], Arc<Call>> {
    let mut record = BaseRecord::with_opaque_to(topic, call.report(at))
        .payload(&message.payload()[..])
        .headers(marshaler::headers(message));
    record.key = message.key().map(|key| &key[..]);
    record
}

impl Drop for Client {
    fn drop(&mut self) {
        let client = self.0.take();
        let _ = thread::Builder::new().name("kafka-drop".to_owned()).spawn(move || drop(client));
    }
}
