//! [`FanOut`]: one subscription for many handlers of this process.

mod member;
mod pump;

pub use member::FanOutMember;
pub use pump::Upstream;

use std::{
    collections::BTreeSet,
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

use self::pump::{Joined, Pump};
use crate::{Subscriber, error::SubscribeError};

/// Gives each message of one topic to several members of this process, from a single subscription: an in-process
/// publish and subscribe over any subscriber. Its delivery is acked when every member has acked it.
///
/// Each [member](Self::member) is a subscriber of its own, for a handler of a router or for code that reads by itself: it
/// has its place, its order, its retries and its pauses, and a message that one of them nacks comes again to that one
/// alone. What is handed on lies in memory, and is safe all the same, because the topic's backend keeps it until the
/// last member is done: a crash delivers it again, to all of them. So a member may see a message again that it has
/// acked, of which another was not done: at most as many as are [`ahead`](Self::ahead).
///
/// If any member rejects a message, its delivery is rejected once all are done with it, and goes wherever the
/// backend keeps such. A member sees the messages of all partitions in one order, and one at a time unless its
/// handler says otherwise. In a copy's extensions is [how the original came](Upstream).
///
/// The subscription begins with the first member that subscribes, and ends, with its settlements recorded, when the last
/// has ended. A member that was made and does not subscribe holds the topic up once it is `ahead` messages behind, as
/// a slow one does: what nobody has acked for it is not acked.
///
/// ```
/// use watermill_core::{Handler, Json, MemoryBroker, Router, components::FanOut};
///
/// # async fn index(_: Json<u32>) {}
/// # async fn notify(_: Json<u32>) {}
/// let broker = MemoryBroker::new();
/// let orders = FanOut::new(broker.subscriber().group("shop"), "orders");
/// let router = Router::new()
///     .add(Handler::new("index", index).from(orders.member("index"), "orders"))
///     .add(Handler::new("notify", notify).from(orders.member("notify"), "orders"));
/// ```
#[derive(Clone)]
pub struct FanOut {
    shared: Arc<Shared>,
}

/// How many messages the fastest member may be ahead of the slowest, unless told otherwise.
const AHEAD: NonZeroUsize = NonZeroUsize::new(100).expect("not zero");

struct Shared {
    upstream: Arc<dyn Subscriber>,
    topic: String,
    ahead: NonZeroUsize,
    members: Mutex<BTreeSet<Arc<str>>>,
    /// The subscription that runs. It runs for as long as any member's does.
    running: tokio::sync::Mutex<Weak<Joined>>,
}

impl FanOut {
    /// Fans out `topic`. The subscriber's consumer group is that of all members together.
    pub fn new(upstream: impl Subscriber + 'static, topic: impl Into<String>) -> Self {
        Self::with(Arc::new(upstream), topic.into(), AHEAD)
    }

    /// How many messages may be with the members that not all are done with: 100 by default. It bounds the memory that this
    /// takes, and how many come again to those who are done after a crash.
    ///
    /// # Panics
    ///
    /// After the first member was made.
    #[must_use]
    pub fn ahead(self, messages: NonZeroUsize) -> Self {
        assert!(self.shared.members.lock().is_empty(), "set `ahead` before the first member is made");
        Self::with(self.shared.upstream.clone(), self.shared.topic.clone(), messages)
    }

    fn with(upstream: Arc<dyn Subscriber>, topic: String, ahead: NonZeroUsize) -> Self {
        let (members, running) = Default::default();
        Self { shared: Arc::new(Shared { upstream, topic, ahead, members, running }) }
    }

    /// A subscriber of every message of the topic, from now on or, if nothing runs yet, from the group's position. Those of
    /// the same name share the work: each message is for one of them.
    #[must_use]
    pub fn member(&self, name: impl Into<Arc<str>>) -> FanOutMember {
        let name = name.into();
        self.shared.members.lock().insert(name.clone());
        FanOutMember::new(self.shared.clone(), name)
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.shared.topic
    }
}

impl Shared {
    /// Joins the subscription that runs, or begins one.
    async fn join(&self) -> Result<Arc<Joined>, SubscribeError> {
        let mut running = self.running.lock().await;
        // One that has ended by itself is held by members that have not let go of it yet, and nobody can read on there.
        if let Some(joined) = running.upgrade().filter(|joined| !joined.pump().has_ended_by_itself()) {
            joined.pump().open_groups(self.members().into_iter()).await?;
            return Ok(joined);
        }
        let pump = Pump::new(&self.topic, self.ahead);
        // Before the first message: it is for those who come a little later, too.
        pump.open_groups(self.members().into_iter()).await?;
        let joined = Arc::new(pump.start(&*self.upstream).await?);
        *running = Arc::downgrade(&joined);
        Ok(joined)
    }

    fn members(&self) -> Vec<Arc<str>> {
        self.members.lock().iter().cloned().collect()
    }
}

impl fmt::Debug for FanOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FanOut").field("topic", &self.shared.topic).finish_non_exhaustive()
    }
}
