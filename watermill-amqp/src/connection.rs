//! [`ToServer`]: how a connection is made.

use std::{
    fmt,
    sync::{Arc, Mutex as BlockingMutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use futures::StreamExt as _;
use lapin::{Channel, Connection as Native, ConnectionProperties, Event};
use tokio::{
    sync::Mutex,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use watermill_core::backend::{Connect, Failure, SharedConnection, Trouble};

use crate::{
    config::Server,
    error::{Fault, classify, within},
};

/// A connection that the subscriptions of a subscriber share, each with a channel of its own.
pub(crate) type Connection = SharedConnection<ToServer>;

/// The longest that an attempt to connect is waited for, over several calls: it cannot be called off.
const ATTEMPT_MAX: Duration = Duration::from_secs(60);
const REPLY_SUCCESS: u16 = 200;

/// The server, and what it last said of being blocked.
pub(crate) struct ToServer {
    server: Server,
    name: &'static str,
    pub(crate) blocked: Blocked,
    /// The attempt that is under way: a server that is frozen gets one at a time.
    attempt: Mutex<Option<Attempt>>,
}

struct Attempt {
    begun: Instant,
    task: JoinHandle<lapin::Result<Native>>,
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
        Self { server, name, blocked, attempt: Mutex::new(None) }
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

    async fn connect_natively(&self) -> Result<Native, Fault> {
        let mut attempt = self.attempt.lock().await;
        let current = match attempt.take_if(|attempt| attempt.begun.elapsed() < ATTEMPT_MAX) {
            Some(current) => attempt.insert(current),
            None => attempt.insert(self.begin()?),
        };
        // Left where it is while it is waited for: a call that is dropped meanwhile leaves it to the next.
        let connected = match timeout(self.server.timeout, &mut current.task).await {
            Ok(connected) => connected,
            Err(_) => return Err(Fault::Silent { to: "connect", after: self.server.timeout }),
        };
        *attempt = None;
        let gone = |error| Fault::Found(Trouble::Unavailable, format!("connecting has ended early: {error}"));
        Ok(connected.map_err(gone)??)
    }

    fn begin(&self) -> Result<Attempt, Fault> {
        let uri =
            self.server.uri().map_err(|why| Fault::Found(Trouble::Config, format!("url is none: {why}")))?;
        let properties = ConnectionProperties::default().with_connection_name(self.name.into());
        let task = tokio::spawn(async move { Native::connect_uri(uri, properties).await });
        Ok(Attempt { begun: Instant::now(), task })
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
