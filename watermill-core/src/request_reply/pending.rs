//! [`Pending`]: the requests that wait for replies.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::{Message, metadata_keys};

/// Who waits for which replies, by the operation's id.
#[derive(Debug, Default)]
pub(super) struct Pending {
    waiting: Mutex<HashMap<Uuid, Waiting>>,
    closed: AtomicBool,
}

#[derive(Debug)]
enum Waiting {
    ForOne(oneshot::Sender<Message>),
    ForMany(mpsc::Sender<Message>),
}

/// A request that waits. Dropped, it does not any more, and nothing is left of it.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) operation: Uuid,
    pending: Arc<Pending>,
}

impl Pending {
    pub(super) fn expect_one(self: &Arc<Self>) -> (Ticket, oneshot::Receiver<Message>) {
        let (sender, receiver) = oneshot::channel();
        (self.expect(Waiting::ForOne(sender)), receiver)
    }

    pub(super) fn expect_many(self: &Arc<Self>, room: usize) -> (Ticket, mpsc::Receiver<Message>) {
        let (sender, receiver) = mpsc::channel(room);
        (self.expect(Waiting::ForMany(sender)), receiver)
    }

    fn expect(self: &Arc<Self>, waiting: Waiting) -> Ticket {
        let operation = Uuid::now_v7();
        let mut all = self.waiting.lock();
        // Looked at under the lock, so that a request comes either before the end, and is told of it, or after.
        if !self.is_closed() {
            all.insert(operation, waiting);
        }
        Ticket { operation, pending: self.clone() }
    }

    /// Hands a reply to who waits for it; whether anybody does. Never waits: a request that takes its replies too slowly
    /// is given up.
    pub(super) fn answer(&self, reply: Message) -> bool {
        let operation = reply.metadata().get(metadata_keys::REQUEST_REPLY_OPERATION_ID);
        let Some(operation) = operation.and_then(|text| Uuid::try_parse(text).ok()) else { return false };
        let mut all = self.waiting.lock();
        let many = match all.get(&operation) {
            Some(Waiting::ForMany(sender)) => sender.clone(),
            Some(Waiting::ForOne(_)) => {
                let waiting = all.remove(&operation);
                drop(all);
                let Some(Waiting::ForOne(sender)) = waiting else { return false };
                return sender.send(reply).is_ok();
            }
            None => return false,
        };
        match many.try_send(reply) {
            Ok(()) => true,
            Err(_) => {
                all.remove(&operation);
                tracing::warn!(%operation, "a request takes its replies too slowly and was given up");
                false
            }
        }
    }

    /// Tells everybody that there will be no more replies.
    pub(super) fn close(&self) {
        let mut all = self.waiting.lock();
        self.closed.store(true, Ordering::Release);
        all.clear();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.lock().len()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.pending.waiting.lock().remove(&self.operation);
    }
}

impl Ticket {
    /// Whether replies are still handed to it: not where it was given up, nor where the inbox was closed.
    pub(super) fn is_waiting(&self) -> bool {
        self.pending.waiting.lock().contains_key(&self.operation)
    }

    /// Whether the inbox was closed, where no more replies come.
    pub(super) fn is_closed(&self) -> bool {
        self.pending.is_closed()
    }
}
