//! [`Request`]: a request about to be sent.

use std::{fmt, future::Future, time::Duration};

use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::{Replies, ReplyInbox, RequestError, RequestErrorKind, reply};
use crate::{
    Message, Publisher, PublisherExt,
    cqrs::{Bus, Commands, Encode, Named},
    metadata_keys,
};

/// A request that is sent when its [reply](Self::reply) or its [replies](Self::replies) are asked for.
#[must_use = "a request is sent when its reply is asked for"]
pub struct Request<'r, A> {
    inbox: &'r ReplyInbox,
    asked: A,
    timeout: Duration,
}

/// What is asked: a command by a bus, or a message by a publisher.
pub trait Asked: Send {
    /// Sends it with these entries in its metadata.
    fn send(self, entries: &[(&str, &str)]) -> impl Future<Output = Result<(), RequestError>> + Send;
}

impl<'r, A: Asked> Request<'r, A> {
    pub(super) fn new(inbox: &'r ReplyInbox, asked: A) -> Self {
        Self { inbox, asked, timeout: inbox.config.timeout }
    }

    /// How long it waits, from when it is sent to its last reply. By default what the inbox says.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends it, and waits for the first reply.
    ///
    /// # Errors
    ///
    /// [`RequestError`] says what became of it.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it does not wait any more; it may have been sent, and may be handled.
    pub async fn reply<R: DeserializeOwned>(self) -> Result<R, RequestError> {
        self.message().await.and_then(|message| reply::value_of(&message))
    }

    /// As [`reply`](Self::reply), with the whole message, for replies that are no JSON.
    ///
    /// # Errors
    ///
    /// As [`reply`](Self::reply).
    ///
    /// # Cancel safety
    ///
    /// As [`reply`](Self::reply).
    pub async fn message(self) -> Result<Message, RequestError> {
        let (ticket, first) = self.inbox.pending.expect_one();
        let sent = send(self.inbox, ticket.operation, self.asked);
        let answered = async {
            sent.await?;
            first.await.map_err(|_| RequestError::new(RequestErrorKind::Closed))
        };
        let message = timeout_at(deadline(self.timeout), answered)
            .await
            .map_err(|_| RequestError::timeout(self.timeout))??;
        reply::succeeded(message)
    }

    /// Sends it, and gives its replies as they come: of several responders, or of one that replies more than once. They end
    /// with the timeout.
    ///
    /// # Errors
    ///
    /// [`RequestError`] when it was not sent.
    ///
    /// # Cancel safety
    ///
    /// As [`reply`](Self::reply).
    pub async fn replies<R: DeserializeOwned>(self) -> Result<Replies<R>, RequestError> {
        let (ticket, replies) = self.inbox.pending.expect_many(self.inbox.config.room().get());
        let until = deadline(self.timeout);
        let sent = send(self.inbox, ticket.operation, self.asked);
        timeout_at(until, sent).await.map_err(|_| RequestError::timeout(self.timeout))??;
        Ok(Replies::new(ticket, replies, until, self.timeout))
    }
}

/// Longer than anybody waits: a timeout that a clock cannot represent ends then.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

fn deadline(timeout: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(timeout.min(FOREVER)).unwrap_or(now)
}

async fn send(inbox: &ReplyInbox, operation: Uuid, asked: impl Asked) -> Result<(), RequestError> {
    // What nobody can be told of is not begun.
    if inbox.pending.is_closed() {
        return Err(RequestError::new(RequestErrorKind::Closed));
    }
    let mut text = Uuid::encode_buffer();
    let operation =
        (metadata_keys::REQUEST_REPLY_OPERATION_ID, &*operation.hyphenated().encode_lower(&mut text));
    let topic = (metadata_keys::REQUEST_REPLY_TOPIC, inbox.config.topic.as_str());
    let entries = [operation, topic];
    asked.send(if inbox.config.names_topic { &entries } else { &entries[..1] }).await
}

/// A command, by a bus.
pub struct ByBus<'r, T, C, P> {
    bus: &'r Bus<Commands, C, P>,
    command: &'r T,
}

impl<'r, T, C, P> ByBus<'r, T, C, P> {
    pub(super) fn new(bus: &'r Bus<Commands, C, P>, command: &'r T) -> Self {
        Self { bus, command }
    }
}

impl<T, C, P> Asked for ByBus<'_, T, C, P>
where
    T: Named + Sync,
    C: Encode<T>,
    P: Publisher,
{
    async fn send(self, entries: &[(&str, &str)]) -> Result<(), RequestError> {
        self.bus.deliver(self.command, entries, |_| ()).await.map_err(RequestError::send)
    }
}

/// A message, by a publisher.
pub struct ByPublisher<'r, P: ?Sized> {
    publisher: &'r P,
    topic: &'r str,
    message: Message,
}

impl<'r, P: ?Sized> ByPublisher<'r, P> {
    pub(super) fn new(publisher: &'r P, topic: &'r str, message: Message) -> Self {
        Self { publisher, topic, message }
    }
}

impl<P: Publisher + ?Sized> Asked for ByPublisher<'_, P> {
    async fn send(mut self, entries: &[(&str, &str)]) -> Result<(), RequestError> {
        self.message.metadata_mut().extend(entries.iter().copied());
        self.publisher.publish_one(self.topic, self.message).await.map_err(RequestError::send)
    }
}

impl<A> fmt::Debug for Request<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}
