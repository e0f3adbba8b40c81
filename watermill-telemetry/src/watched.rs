//! [`Watched`]: what a service consists of, for whoever looks at it.

#[cfg(feature = "http")]
use std::collections::BTreeSet;
use std::{fmt, sync::Arc};

#[cfg(feature = "http")]
use parking_lot::Mutex;
use watermill_core::{
    Subscriber,
    router::RouterControl,
    subscription::{Health, SubscriptionStatus},
};
#[cfg(feature = "forwarder")]
use watermill_forwarder::ForwarderControl;

/// The routers, relays and backends of a service: what health pages and figures are read from.
///
/// Looking at them blocks nobody and asks no server: each part tells what it learned last. Cheap to clone.
///
/// ```
/// use watermill_core::{MemoryBroker, Router, subscription::Health};
/// use watermill_telemetry::Watched;
///
/// let (router, broker) = (Router::new(), MemoryBroker::new());
/// let watched = Watched::new()
///     .router(router.control())
///     .subscriber("orders", broker.subscriber())
///     .check("cache", || Health::Healthy);
/// ```
#[derive(Clone, Default)]
pub struct Watched {
    parts: Arc<Vec<Part>>,
}

/// One of them.
#[derive(Clone)]
pub(crate) enum Part {
    Router(RouterControl),
    #[cfg(feature = "forwarder")]
    Relay {
        name: String,
        control: ForwarderControl,
    },
    Subscriber {
        name: String,
        subscriber: Arc<dyn Subscriber>,
        /// The subscriptions that were seen on the health page.
        #[cfg(feature = "http")]
        seen: Arc<Mutex<BTreeSet<Seen>>>,
    },
    Check {
        name: String,
        check: Arc<dyn Fn() -> Health + Send + Sync>,
    },
}

/// The topic and the consumer group of a subscription.
#[cfg(feature = "http")]
pub(crate) type Seen = (String, Option<String>);

impl Watched {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A router, and with it each of its handlers and their subscriptions. The names of handlers are to be unique in the
    /// process: figures are kept by them.
    #[must_use]
    pub fn router(self, control: RouterControl) -> Self {
        self.with(Part::Router(control))
    }

    /// A relay that runs in this process.
    #[cfg(feature = "forwarder")]
    #[cfg_attr(docsrs, doc(cfg(feature = "forwarder")))]
    #[must_use]
    pub fn relay(self, name: impl Into<String>, control: ForwarderControl) -> Self {
        self.with(Part::Relay { name: name.into(), control })
    }

    /// A subscriber that is read without a router; those of a router's handlers are seen through the router. Its
    /// subscriptions are to last as long as the process: one that was seen and is no more has ended.
    #[must_use]
    pub fn subscriber(self, name: impl Into<String>, subscriber: impl Subscriber + 'static) -> Self {
        self.with(Part::Subscriber {
            name: name.into(),
            subscriber: Arc::new(subscriber),
            #[cfg(feature = "http")]
            seen: Arc::default(),
        })
    }

    /// Anything else that has a health, a pool of connections for instance. It is asked on each request, and is not to block.
    #[must_use]
    pub fn check(self, name: impl Into<String>, check: impl Fn() -> Health + Send + Sync + 'static) -> Self {
        self.with(Part::Check { name: name.into(), check: Arc::new(check) })
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    fn with(mut self, part: Part) -> Self {
        Arc::make_mut(&mut self.parts).push(part);
        self
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&*self.parts).finish()
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Router(control) => control.fmt(f),
            #[cfg(feature = "forwarder")]
            Self::Relay { name, .. } => f.debug_tuple("Relay").field(name).finish(),
            Self::Subscriber { name, subscriber, .. } => {
                let health: Vec<_> = subscriber.status().into_iter().map(health).collect();
                f.debug_tuple("Subscriber").field(name).field(&health).finish()
            }
            Self::Check { name, check } => f.debug_tuple("Check").field(name).field(&check()).finish(),
        }
    }
}

fn health(status: SubscriptionStatus) -> Health {
    status.health
}
