//! [`Backend`]: what a backend tells the conformance suite about itself.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use watermill_core::{Publisher, Subscriber};

/// A backend that joins the [conformance suite](crate::conformance!).
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Opens a publisher and a subscriber that share their topics with those of every other call, as
    /// two processes that use the backend would.
    async fn connect(&self) -> Connection;

    /// What the backend cannot do. The suite tests that this is refused, and not pretended.
    fn lacks(&self) -> &[Lack] {
        &[]
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
}

/// A publisher and a subscriber.
#[derive(Clone)]
pub struct Connection {
    /// Where the suite publishes.
    pub publisher: Arc<dyn Publisher>,
    /// Where it subscribes: the suite asks it for [groups](Subscriber::in_group).
    pub subscriber: Arc<dyn Subscriber>,
}

/// Something that a backend cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lack {
    /// Calls that are accepted as a whole or not at all.
    AtomicPublish,
    /// The order of publish calls that are in progress together.
    PublishOrder,
    /// Order over a whole topic. There is order within each key still.
    TotalOrder,
    /// Any order.
    Order,
    /// Consumer groups.
    Groups,
    /// New groups that get what was published before they began.
    History,
    /// Messages that outlive the process.
    Persistence,
    /// Waiting for the delay of a nack.
    NackDelay,
    /// Nacked messages that hold nothing up when the window is unordered.
    UnorderedWindow,
    /// Saying of a message that it may have been delivered before.
    Redelivered,
    /// A place of its own for rejected messages.
    DeadLetters,
    /// Payloads that are not JSON, the empty one for instance.
    BinaryPayloads,
    /// Deliveries that stay with one consumer while others of its group come and go. Where they do
    /// not, each may be delivered to a second one too.
    StableOwnership,
    /// A server that can be restarted: the backend lives in this process.
    Restart,
}

impl Connection {
    /// Joins the two.
    pub fn new(publisher: impl Publisher + 'static, subscriber: impl Subscriber + 'static) -> Self {
        Self { publisher: Arc::new(publisher), subscriber: Arc::new(subscriber) }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("publisher", &self.publisher.capabilities())
            .field("subscriber", &self.subscriber.capabilities())
            .finish()
    }
}
