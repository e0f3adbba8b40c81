//! [`ToServer`]: how a connection is made.

use std::{
    fmt,
    sync::{Arc, Mutex as BlockingMutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use futures::StreamExt as _;
use lapin::{Channel, Connection as Native, ConnectionProperties, Event};
use tokio_util::task::AbortOnDropHandle;
use watermill_core::backend::{Connect, Failure, SharedConnection, Trouble};

use crate::{
    attempt::Attempt,
    config::Server,
    error::{Fault, classify, within},
};

/// A connection that the subscriptions of a subscriber share, each with a channel of its own.
pub(crate) type Connection = SharedConnection<ToServer>;

const REPLY_SUCCESS: u16 = 200;

/// The server, and what it last said of being blocked.
pub(crate) struct ToServer {
    server: Server,
    name: &'static str,
    pub(crate) blocked: Blocked,
}

/// A connection, with somebody who listens to what the server says of it.
pub(crate) struct Open {
    pub(crate) native: Native,
    timeout: Duration,
    _said: Arc<Said>,
    _listening: AbortOnDropHandle<()>,
}

/// Why the server has blocked whoever publishes, if it has: as it has said on the connection that was made last, for as
/// long as that is there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Blocked(Arc<BlockingMutex<Weak<Said>>>);

/// What the server has said on a connection.
type Said = BlockingMutex<Option<String>>;

impl ToServer {
    /// `name` is what the server shows of a connection.
    pub(crate) fn new(server: Server, name: &'static str, blocked: Blocked) -> Self {
        Self { server, name, blocked }
    }

    pub(crate) async fn open(&self) -> Result<Open, Fault> {
        let native = self.connect_natively().await?;
        let (said, name) = (Arc::new(Said::default()), self.name);
        self.blocked.listen_to(&said);
        let mut events = native.events_listener();
        let told = said.clone();
        let listening = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                match event {
                    Event::ConnectionBlocked(reason) => {
                        tracing::warn!(
                            connection = name,
                            reason,
                            "the server has blocked who publishes; calls wait"
                        );
                        *lock(&told) = Some(reason);
                    }
                    Event::ConnectionUnblocked => {
                        tracing::info!(connection = name, "the server takes messages again");
                        *lock(&told) = None;
                    }
                    _ => {}
                }
            }
        });
        Ok(Open {
            native,
            timeout: self.server.timeout,
            _said: said,
            _listening: AbortOnDropHandle::new(listening),
        })
    }

    /// One attempt, which ends in time with all that it has begun.
    async fn connect_natively(&self) -> Result<Native, Fault> {
        let uri = self.server.uri().map_err(|why| Fault::Found(Trouble::Config, why.to_owned()))?;
        let properties = ConnectionProperties::default().with_connection_name(self.name.into());
        let attempt = Attempt::default();
        let connected = within(self.server.timeout, "connect", attempt.connect(uri, properties)).await?;
        attempt.succeeded();
        Ok(connected)
    }
}

impl Open {
    pub(crate) async fn channel(&self) -> Result<Channel, Fault> {
        within(self.timeout, "open a channel", self.native.create_channel()).await
    }

    /// Says goodbye, for as long as an answer may take.
    pub(crate) async fn close(&self) {
        let closed = within(self.timeout, "close", self.native.close(REPLY_SUCCESS, "bye".into())).await;
        if let Err(fault) = closed {
            tracing::debug!(reason = classify(fault).text(), "a connection was not closed in good order");
        }
    }
}

/// Says goodbye on a channel: the server takes back what is unsettled on it, all at once and in its places.
pub(crate) async fn close_channel(channel: &Channel, at_most: Duration) -> Result<(), Fault> {
    within(at_most, "close a channel", channel.close(REPLY_SUCCESS, "bye".into())).await
}

impl Blocked {
    fn listen_to(&self, said: &Arc<Said>) {
        *lock(&self.0) = Arc::downgrade(said);
    }

    pub(crate) fn reason(&self) -> Option<String> {
        let said = lock(&self.0).upgrade()?;
        lock(&said).clone()
    }
}

fn lock<T>(of: &BlockingMutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Connect for ToServer {
    type Connection = Arc<Open>;
    type Error = Fault;

    async fn connect(&self) -> Result<Arc<Open>, Fault> {
        self.open().await.map(Arc::new)
    }

    fn is_lost(&self, fault: &Fault) -> bool {
        fault.ends_connection()
    }

    fn classify(&self, fault: Fault) -> Failure {
        classify(fault)
    }
}

impl fmt::Debug for ToServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToServer").field("server", &self.server).finish_non_exhaustive()
    }
}
