//! [`ReplyInbox`]: where the replies to all requests of a process arrive.

use std::{fmt, sync::Arc};

use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    ReplyInboxConfig, Request,
    listening::Listening,
    pending::Pending,
    request::{ByBus, ByPublisher},
};
use crate::{
    Message, Publisher, Subscriber,
    cqrs::{Bus, Commands, Encode, Named},
    error::SubscribeError,
};

/// Where the replies to all requests of a process arrive: one subscription, however many requests wait. Clones are the same
/// inbox; it ends with the last of them.
///
/// ```
/// # use std::time::Duration;
/// # use watermill_core::{Handler, Json, MemoryBroker, Message, Router, error::BoxError, router::Phase};
/// use watermill_core::request_reply::{ReplyInbox, ReplyInboxConfig, Responder};
///
/// async fn double(Json(number): Json<u32>) -> Json<u32> {
///     Json(number * 2)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// # let broker = MemoryBroker::new();
/// let responder = Handler::new("double", double)
///     .from(broker.subscriber(), "numbers")
///     .to(broker.publisher(), "replies")
///     .layer(Responder::new());
/// # let router = Router::new().add(responder);
/// # let control = router.control();
/// # let running = tokio::spawn(router.run());
/// # control.reached(Phase::Running).await;
///
/// let inbox = ReplyInbox::open(broker.subscriber(), ReplyInboxConfig::new("replies")).await?;
/// let number: u32 = inbox.ask(&broker.publisher(), "numbers", Message::json(&21)?).reply().await?;
/// assert_eq!(number, 42);
/// # control.stop();
/// # running.await??;
/// # Ok(())
/// # }
/// ```
///
/// Give it a subscriber that reads alone: without a group, where that means all messages, as in memory; in a group with a name of
/// this process's own elsewhere. It acks every reply, also those to requests of others.
#[derive(Clone)]
pub struct ReplyInbox {
    pub(super) pending: Arc<Pending>,
    pub(super) config: Arc<ReplyInboxConfig>,
    stop: Arc<Stop>,
}

struct Stop {
    token: CancellationToken,
    listening: tokio::sync::Mutex<Option<JoinHandle<()>>>,
    _guard: DropGuard,
}

impl ReplyInbox {
    /// Subscribes to replies. What is asked for after this returns can be answered.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`] when the topic cannot be subscribed to, or the configuration cannot work.
    ///
    /// # Cancel safety
    ///
    /// A dropped future leaves nothing behind.
    pub async fn open(
        subscriber: impl Subscriber + 'static,
        config: ReplyInboxConfig,
    ) -> Result<Self, SubscribeError> {
        config.validate()?;
        let (pending, token) = (Arc::<Pending>::default(), CancellationToken::new());
        let listening = Listening {
            subscriber: Arc::new(subscriber),
            topic: config.topic.clone(),
            pending: pending.clone(),
            stop: token.clone(),
        };
        let subscription = listening.subscribe().await?;
        let task = tokio::spawn(listening.run(subscription));
        let guard = token.clone().drop_guard();
        let stop = Stop { token, listening: tokio::sync::Mutex::new(Some(task)), _guard: guard };
        Ok(Self { pending, config: Arc::new(config), stop: Arc::new(stop) })
    }

    /// A request that is a command: sent by its bus, and answered by its handler.
    pub fn request<'r, T, C, P>(
        &'r self,
        bus: &'r Bus<Commands, C, P>,
        command: &'r T,
    ) -> Request<'r, ByBus<'r, T, C, P>>
    where
        T: Named + Sync,
        C: Encode<T>,
        P: Publisher,
    {
        Request::new(self, ByBus::new(bus, command))
    }

    /// A request that is any message, for a topic that a [`Responder`](super::Responder) answers.
    pub fn ask<'r, P: Publisher + ?Sized>(
        &'r self,
        publisher: &'r P,
        topic: &'r str,
        message: Message,
    ) -> Request<'r, ByPublisher<'r, P>> {
        Request::new(self, ByPublisher::new(publisher, topic, message))
    }

    /// How many requests wait for replies.
    pub fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// Ends it: requests that wait fail with [`Closed`](super::RequestErrorKind::Closed), and so do later ones. Returns
    /// when the subscription is closed, after 5 s at the latest. Dropping the last clone does the same in the background.
    ///
    /// # Cancel safety
    ///
    /// Once polled it ends, though the future is dropped.
    pub async fn close(&self) {
        self.stop.token.cancel();
        if let Some(task) = self.stop.listening.lock().await.take() {
            // A panic in it was said already, by the runtime's hook.
            let _ = task.await;
        }
    }
}

impl fmt::Debug for ReplyInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyInbox")
            .field("topic", &self.config.topic)
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}
