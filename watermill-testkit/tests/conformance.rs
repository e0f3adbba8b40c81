//! A wrapper keeps every promise of what it wraps: the suite, through [`Faulty`] without faults.

use async_trait::async_trait;
use watermill_core::memory::{MemoryBroker, MemoryConfig};
use watermill_testkit::{Backend, Connection, Faults, Faulty, Lack};

/// Messages that a group holds: the large tests of the suite publish 10,000 before anybody reads.
const CAPACITY: usize = 12_000;

struct Wrapped(MemoryBroker);

#[async_trait]
impl Backend for Wrapped {
    async fn connect(&self) -> Connection {
        let faults = Faults::seeded(0);
        let publisher = Faulty::new(self.0.publisher(), faults);
        Connection::new(publisher, Faulty::new(self.0.subscriber(), faults))
    }

    fn lacks(&self) -> &[Lack] {
        &[Lack::ConsumerTimeout, Lack::Restart, Lack::History]
    }

    fn capacity(&self) -> Option<usize> {
        Some(CAPACITY)
    }
}

watermill_testkit::conformance!({
    let config = MemoryConfig::default().capacity(CAPACITY);
    Wrapped(MemoryBroker::with_config(config).expect("the config is valid"))
});
