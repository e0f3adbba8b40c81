//! [`Client`]: one client of librdkafka that sends.

use std::{sync::Arc, thread, time::Duration};

use rdkafka::{
    ClientConfig,
    error::KafkaError,
    producer::{BaseRecord, Producer as _, ThreadedProducer},
    types::RDKafkaErrorCode as Code,
};
use watermill_core::Message;

use crate::{
    marshaler,
    report::{Call, Reports, Unsent},
};

/// The pause before a full queue is looked at again. librdkafka does not say when it has room, and a
/// queue of its usual size holds work for a hundred times as long.
pub(super) const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(1);

/// Ends on a thread of its own, since it waits for its queue and its threads.
pub(crate) struct Client(Option<ThreadedProducer<Reports>>);

impl Client {
    /// A client whose messages fail with it.
    pub(crate) fn new(config: &ClientConfig) -> Result<Arc<Self>, KafkaError> {
        Ok(Arc::new(Self(Some(config.create_with_context(Reports::default())?))))
    }

    /// One that keeps what it could not send for the next one.
    pub(crate) fn resending(config: &ClientConfig) -> Result<Arc<Self>, KafkaError> {
        Ok(Arc::new(Self(Some(config.create_with_context(Reports::keeping())?))))
    }

    pub(crate) fn get(&self) -> &ThreadedProducer<Reports> {
        self.0.as_ref().expect("it is there until it is dropped")
    }

    /// What it could not send.
    pub(crate) fn take_unsent(&self) -> Vec<Unsent> {
        self.get().context().take_unsent()
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
pub(crate) fn record<'m>(
    call: &Arc<Call>,
    topic: &'m str,
    at: usize,
    message: &'m Message,
) -> BaseRecord<'m, [u8], [u8], Arc<Call>> {
    let mut record = BaseRecord::with_opaque_to(topic, call.report(at)).headers(marshaler::headers(message));
    record.payload = marshaler::value(message);
    record.key = message.key().map(|key| &key[..]);
    record
}

impl Drop for Client {
    fn drop(&mut self) {
        let client = self.0.take();
        let _ = thread::Builder::new().name("kafka-drop".to_owned()).spawn(move || drop(client));
    }
}
