//! [`Backend`]: what a backend tells the conformance suite about itself.

mod limits;

pub use limits::Limits;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use watermill_core::{Message, Publisher, Subscriber};

/// A backend that joins the [conformance suite](crate::conformance!).
///
/// What its capabilities state the suite reads from them: what they claim must hold, and what they do not
/// claim must be refused. [`lacks`](Self::lacks) and [`limits`](Self::limits) say the rest.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Opens a publisher and a subscriber that share their topics with those of every other call, as
    /// two processes that use the backend would.
    async fn connect(&self) -> Connection;

    /// The same with consumers that are soon given up once they stop without a word: with the shortest
    /// lease, session or visibility timeout that works, a second or two, and how long that is. `None` goes
    /// with [`Lack::ConsumerTimeout`].
    ///
    /// The suite opens it on a runtime of its own and stops that runtime in the middle, as a machine that
    /// hangs does: none of its tasks goes on, and nobody says goodbye to the server.
    async fn connect_with_timeout(&self) -> Option<(Connection, Duration)> {
        None
    }

    /// What the backend cannot do, as far as its capabilities do not say so. The suite tests that this is
    /// refused, and not pretended.
    fn lacks(&self) -> &[Lack] {
        &[]
    }

    /// Which messages the backend can hold. The suite tests that they arrive, and that others are refused
    /// before anything is sent.
    fn limits(&self) -> Limits {
        Limits::default()
    }

    /// Turns a unique name of lowercase letters, digits and underscores into a topic.
    fn topic(&self, unique: &str) -> String {
        unique.to_owned()
    }

    /// Names that the backend cannot hold as topics.
    fn invalid_topics(&self) -> Vec<String> {
        vec![String::new()]
    }

    /// How many unread messages a topic takes before `publish` waits; at least 12,000. `None` where
    /// they lie in a store, and not in the memory of this process.
    fn capacity(&self) -> Option<usize> {
        None
    }

    /// Divides the numbers of messages of the large tests (1,000 and more), for a backend that takes
    /// more than a minute for them otherwise.
    fn scale(&self) -> usize {
        1
    }

    /// The topic that rejected messages of `topic` go to, where there is one.
    fn dead_letter_topic(&self, _topic: &str) -> Option<String> {
        None
    }

    /// Stops the server abruptly and starts it again with what it has stored.
    async fn restart(&self) {
        panic!("the backend neither lists `Lack::Restart` nor implements `Backend::restart`");
    }

    /// What has arrived at the other side of `topic`, in order: for a
    /// [publisher without a subscriber](Connection::publish_only), a webhook for instance.
    async fn received(&self, _topic: &str) -> Vec<Message> {
        panic!("a backend that only publishes implements `Backend::received`");
    }
}

/// A publisher and a subscriber.
#[derive(Clone)]
pub struct Connection {
    /// Where the suite publishes.
    pub publisher: Arc<dyn Publisher>,
    /// Where it subscribes: the suite asks it for [groups](Subscriber::in_group). `None` for a backend that
    /// only publishes.
    pub subscriber: Option<Arc<dyn Subscriber>>,
}

/// Something that a backend cannot do and its capabilities do not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lack {
    /// New groups that get what was published before they began.
    History,
    /// Nacked messages that hold nothing up when the window is unordered.
    UnorderedWindow,
    /// Saying of a message that it may have been delivered before.
    Redelivered,
    /// Deliveries that stay with one consumer while others of its group come and go. Where they do
    /// not, each may be delivered to a second one too.
    StableOwnership,
    /// A time after which a consumer that has died loses what it had: consumers live in this process, and
    /// die with the backend.
    ConsumerTimeout,
    /// Refusing what is beyond the [limits](Backend::limits) before anything is sent: a relay finds out at
    /// the destination, when the publisher has answered.
    EarlyRefusal,
    /// A server that can be restarted: the backend lives in this process.
    Restart,
}

impl Connection {
    /// Joins the two.
    pub fn new(publisher: impl Publisher + 'static, subscriber: impl Subscriber + 'static) -> Self {
        Self { publisher: Arc::new(publisher), subscriber: Some(Arc::new(subscriber)) }
    }

    /// A publisher whose messages nobody can subscribe to; [`Backend::received`] tells what arrived.
    pub fn publish_only(publisher: impl Publisher + 'static) -> Self {
        Self { publisher: Arc::new(publisher), subscriber: None }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("publisher", &self.publisher.capabilities())
            .field("subscriber", &self.subscriber.as_ref().map(|subscriber| subscriber.capabilities()))
            .finish()
    }
}
