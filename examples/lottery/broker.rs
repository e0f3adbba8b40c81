//! [`Broker`]: where events are published and heard.

use std::sync::Arc;

use watermill_core::{MemoryBroker, Publisher, Subscriber, error::BoxError, memory::MemoryConfig};

use crate::options::BrokerUrl;

/// A publisher and a subscriber of one broker.
pub(crate) struct Broker {
    pub(crate) publisher: Arc<dyn Publisher>,
    /// For the consumer group of the prize service.
    pub(crate) prizes: Arc<dyn Subscriber>,
}

impl Broker {
    /// Connects to a broker that will have to hold up to `messages` messages: events whose winner is
    /// not stored stay until the end.
    pub(crate) fn connect(url: &BrokerUrl, messages: u32) -> Result<Self, BoxError> {
        match url {
            BrokerUrl::Memory => {
                // Twice, since the relay may publish an event again after it was killed.
                let capacity = 2 * messages as usize + 1024;
                let broker = MemoryBroker::with_config(MemoryConfig::default().capacity(capacity))?;
                let publisher = Arc::new(broker.publisher());
                Ok(Self { publisher, prizes: Arc::new(broker.subscriber().group("prizes")) })
            }
        }
    }
}
