//! [`Producer`]: a client that sends, replaced when librdkafka declares it dead.

mod client;
mod recovery;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use rdkafka::{
    ClientConfig,
    error::KafkaError,
    producer::{BaseRecord, Producer as _, PurgeConfig},
    types::RDKafkaErrorCode as Code,
};
use tokio::task;
use watermill_core::Message;

pub(crate) use self::client::{Client, record};
use self::{client::QUEUE_FULL_PAUSE, recovery::Recovered};
use crate::{error, report::Call, topics};

/// How long a topic is looked for before the first message to it. What is not found by then is
/// librdkafka's to wait for.
const LOOK_TIME: Duration = Duration::from_secs(2);

/// How long closing waits for messages whose callers have gone.
const GIVEN_UP_TIME: Duration = Duration::from_secs(1);

/// How often a call finds its client dead before it fails.
const DEAD_MAX: u32 = 10;

/// A client, and how to make another.
pub(crate) struct Producer(Arc<Shared>);

struct Shared {
    config: ClientConfig,
    slot: Mutex<Slot>,
    /// Numbers calls in the order in which they are queued.
    calls: AtomicU64,
}

struct Slot {
    client: Arc<Client>,
    /// Whether the client is being replaced: nothing may be queued before the next one has what the last one has
    /// left to it.
    changing: bool,
    /// How large batches may be, as far as brokers have taught us; `None` as long as that is as configured.
    batch_bytes: Option<usize>,
}

impl Producer {
    pub(crate) fn new(config: ClientConfig) -> Result<Self, KafkaError> {
        let client = Client::resending(&config)?;
        let slot = Slot { client: client.clone(), changing: false, batch_bytes: None };
        let shared = Arc::new(Shared { config, slot: Mutex::new(slot), calls: AtomicU64::new(0) });
        shared.watch(&client);
        Ok(Self(shared))
    }

    /// Queues the messages of a call from this position on, in order, and waits for room where there is none.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it has queued the first of them, none or all; those are sent.
    pub(crate) async fn enqueue(&self, call: &Arc<Call>, topic: &str, messages: &[Message], from: usize) {
        if from == 0 {
            self.number(call);
        }
        for (at, message) in messages.iter().enumerate().skip(from) {
            if let Err(error) = self.enqueue_one(record(call, topic, at, message), call).await {
                // What comes after it must not overtake it.
                call.fail(at..messages.len(), &error);
                break;
            }
        }
    }

    async fn enqueue_one(
        &self,
        mut record: BaseRecord<'_, [u8], [u8], Arc<Call>>,
        call: &Call,
    ) -> Result<(), KafkaError> {
        let mut dead = 0;
        loop {
            let client = self.client().await;
            // Everything that was not accepted so far is known when a client is replaced.
            if call.has_failed() {
                return Err(KafkaError::MessageProduction(Code::PurgeQueue));
            }
            match client.get().send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), again)) => record = again,
                Err((error, again)) if error::is_of_dead_client(&error) && dead < DEAD_MAX => {
                    (record, dead) = (again, dead + 1);
                    self.replace_if_dead();
                }
                Err((error, _)) => return Err(error),
            }
            tokio::time::sleep(QUEUE_FULL_PAUSE).await;
        }
    }

    /// Whether the topic is there and its leaders know that they are; see [`topics::have_leaders`].
    pub(crate) async fn has_leaders(&self, topic: &str) -> bool {
        let (client, topic) = (self.client().await, topic.to_owned());
        let look = move || topics::have_leaders(client.get().client(), &topic, LOOK_TIME);
        task::spawn_blocking(look).await.unwrap_or(false)
    }

    /// Queues the messages of a call as long as there is room: how many of them are queued.
    pub(crate) fn try_enqueue(&self, call: &Arc<Call>, topic: &str, messages: &[Message]) -> usize {
        self.number(call);
        let Some(client) = self.0.client() else { return 0 };
        for (at, message) in messages.iter().enumerate() {
            match client.get().send(record(call, topic, at, message)) {
                Ok(()) => {}
                Err((KafkaError::MessageProduction(Code::QueueFull), _)) => return at,
                Err((error, _)) if error::is_of_dead_client(&error) => return at,
                Err((error, _)) => {
                    call.fail(at..messages.len(), &error);
                    break;
                }
            }
        }
        messages.len()
    }

    /// Has a client replaced that has failed for good. Whoever waits for one of its reports hears what became of it.
    pub(crate) fn replace_if_dead(&self) {
        let Some(client) = self.0.client() else { return };
        if client.get().client().fatal_error().is_some() {
            self.0.replace(&client, false);
        }
    }

    /// Waits for messages whose callers have gone, as long as they may take when brokers are there. What is left is
    /// taken back: whoever has given it up may be about to have it published by somebody else. To be called when no call is in progress.
    pub(crate) async fn close(&self) {
        let client = self.client().await;
        let closed = task::spawn_blocking(move || {
            let given_up = if client.get().context().is_away() { Duration::ZERO } else { GIVEN_UP_TIME };
            if client.get().flush(given_up).is_err() {
                tracing::warn!(
                    messages = client.get().in_flight_count(),
                    "messages that their callers have given up are not sent"
                );
                client.get().purge(PurgeConfig::default().queue().inflight());
            }
        });
        // Otherwise the runtime ends, and nothing is sent when the client is dropped.
        let _ = closed.await;
    }

    /// Takes back what was not sent, of all calls, and goes on with another client: with this one the numbers of what is
    /// sent next would have a gap.
    pub(crate) fn take_back(&self) {
        if let Some(client) = self.0.client()
            && client.get().in_flight_count() > 0
        {
            self.0.replace(&client, true);
        }
    }

    pub(crate) fn in_flight(&self) -> i32 {
        self.0.lock().client.get().in_flight_count()
    }

    fn number(&self, call: &Call) {
        call.begin(self.0.calls.fetch_add(1, Ordering::Relaxed));
    }

    /// The client, once there is one.
    async fn client(&self) -> Arc<Client> {
        loop {
            match self.0.client() {
                Some(client) => return client,
                None => tokio::time::sleep(QUEUE_FULL_PAUSE).await,
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client(&self) -> Option<Arc<Client>> {
        let slot = self.lock();
        (!slot.changing).then(|| slot.client.clone())
    }

    /// Replaces a client once it has something that it could not send.
    fn watch(self: &Arc<Self>, client: &Arc<Client>) {
        let (this, watched) = (Arc::downgrade(self), Arc::downgrade(client));
        client.get().context().on_unsent(move || {
            if let (Some(this), Some(client)) = (this.upgrade(), watched.upgrade()) {
                this.replace(&client, false);
            }
        });
    }

    /// On a thread of its own, for what is on its way is waited for. One that has not failed is kept, unless it is to go.
    fn replace(self: &Arc<Self>, client: &Arc<Client>, is_to_go: bool) {
        {
            let mut slot = self.lock();
            if slot.changing || !Arc::ptr_eq(&slot.client, client) {
                return;
            }
            slot.changing = true;
        }
        let (this, client) = (self.clone(), client.clone());
        let replacing = move || {
            let batch_bytes = this.lock().batch_bytes;
            let Recovered { next, batch_bytes } =
                recovery::recover(&client, &this.config, batch_bytes, is_to_go);
            if let Some(next) = &next {
                this.watch(next);
            }
            let mut slot = this.lock();
            *slot =
                Slot { client: next.unwrap_or_else(|| slot.client.clone()), changing: false, batch_bytes };
        };
        if let Err(error) = thread::Builder::new().name("kafka-replace".to_owned()).spawn(replacing) {
            tracing::error!(%error, "no thread to replace a Kafka client on; the next call tries again");
            self.lock().changing = false;
        }
    }
}
