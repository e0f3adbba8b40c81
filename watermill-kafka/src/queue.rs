//! [`Queue`]: the queue of one partition, from which its subscription takes records itself.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::task::AtomicWaker;
use rdkafka::{
    Message as _,
    consumer::{BaseConsumer, base_consumer::PartitionQueue},
    error::KafkaError,
    message::BorrowedMessage,
};
use watermill_core::{Message, MessageId, Metadata, message::Record};
use yoke::{Yoke, Yokeable};

use crate::{context::Context, marshaler};

/// A partition's queue in librdkafka, split from the client's own: whoever reads it takes records
/// where they lie, and what is not read is not fetched beyond the client's bounds. So nothing has to be
/// paused, and no record crosses a channel of ours.
///
/// There is one for each partition that a client was ever assigned, for as long as the client lives:
/// dropping one would silence its successor, for both wrap the same native queue.
pub(crate) struct Queue {
    native: PartitionQueue<Context>,
    reader: Arc<CurrentReader>,
    /// After the queue, so that the client goes when nothing of it is left.
    _handle: Arc<ClientHandle>,
}

/// Who is to be woken when the queue is not empty any more.
type CurrentReader = Mutex<Option<Arc<AtomicWaker>>>;

/// The client of librdkafka. Records keep it, and what keeps it last lets go of it.
pub(crate) struct ClientHandle(Option<Arc<BaseConsumer<Context>>>);

/// A record where it lies in the client's memory.
struct NativeRecord(Yoke<Borrowed<'static>, Arc<Queue>>);

#[derive(Yokeable)]
struct Borrowed<'a>(BorrowedMessage<'a>);

/// What a queue has to offer.
pub(crate) struct Taken {
    pub(crate) offset: i64,
    /// In milliseconds since the Unix epoch.
    pub(crate) timestamp: Option<i64>,
    pub(crate) message: Message,
}

impl Queue {
    /// Splits the queue of a partition from the client's. To be called before the partition is assigned,
    /// so that no record of it goes the other way.
    pub(crate) fn split(handle: &Arc<ClientHandle>, topic: &str, partition: i32) -> Option<Arc<Self>> {
        let reader = Arc::new(CurrentReader::default());
        let mut native = handle.consumer().split_partition_queue(topic, partition)?;
        native.set_nonempty_callback({
            let reader = reader.clone();
            // Called under a lock of librdkafka: it takes no other but this small one.
            move || {
                if let Some(reader) = &*reader.lock().unwrap_or_else(PoisonError::into_inner) {
                    reader.wake();
                }
            }
        });
        Some(Arc::new(Self { native, reader, _handle: handle.clone() }))
    }

    /// Wakes `reader` from now on, when there is something to take again.
    pub(crate) fn wakes(&self, reader: Option<Arc<AtomicWaker>>) {
        *self.reader.lock().unwrap_or_else(PoisonError::into_inner) = reader;
    }

    /// The next record, if there is one now.
    #[inline]
    pub(crate) fn take(self: &Arc<Self>) -> Option<Result<Taken, KafkaError>> {
        let record =
            Yoke::try_attach_to_cart(self.clone(), |queue| match queue.native.poll(Duration::ZERO) {
                Some(Ok(record)) => Ok(Borrowed(record)),
                Some(Err(error)) => Err(Some(error)),
                None => Err(None),
            });
        match record {
            Ok(record) => Some(Ok(Taken::new(record))),
            Err(error) => error.map(Err),
        }
    }
}

impl Taken {
    #[inline]
    fn new(record: Yoke<Borrowed<'static>, Arc<Queue>>) -> Self {
        let borrowed = &record.get().0;
        let (offset, timestamp) = (borrowed.offset(), borrowed.timestamp().to_millis());
        let has_value = borrowed.payload().is_some();
        let message = Message::from_record(NativeRecord(record));
        let message = if has_value { message } else { message.without_value() };
        Self { offset, timestamp, message }
    }
}

impl Record for NativeRecord {
    fn payload(&self) -> &[u8] {
        self.0.get().0.payload().unwrap_or_default()
    }

    fn read(&self) -> (MessageId, Option<Bytes>, Metadata) {
        marshaler::read(&self.0.get().0)
    }
}

impl ClientHandle {
    pub(crate) fn new(consumer: Arc<BaseConsumer<Context>>) -> Arc<Self> {
        Arc::new(Self(Some(consumer)))
    }

    pub(crate) fn consumer(&self) -> &Arc<BaseConsumer<Context>> {
        self.0.as_ref().expect("the client is there until the handle is dropped")
    }

    /// Whether no record keeps the client.
    pub(crate) fn is_last(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) == 1
    }

    /// Destroys the client here and now, unless records that somebody keeps lie in its memory.
    pub(crate) fn release(self: Arc<Self>) {
        if let Some(mut last) = Arc::into_inner(self) {
            drop(last.0.take());
        }
    }
}

impl Drop for ClientHandle {
    /// On a thread of its own: destroying a client waits for its threads, and the last to let go of it
    /// may be a task that drops the last record.
    fn drop(&mut self) {
        let Some(consumer) = self.0.take() else { return };
        let dropping = std::thread::Builder::new().name("kafka-drop".to_owned());
        if let Err(error) = dropping.spawn(move || drop(consumer)) {
            tracing::warn!(%error, "no thread to destroy a Kafka client on; this one waits for it");
        }
    }
}
