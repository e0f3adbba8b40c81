//! A wrapper keeps every promise of what it wraps: the suite, through [`Faulty`] without faults.

use std::sync::Arc;

use async_trait::async_trait;
use watermill_core::memory::{MemoryBroker, MemoryConfig};
use watermill_testkit::{Backend, Connection, Faults, Faulty, Lack, suite::order};

/// Messages that a group holds: the large tests of the suite publish 10,000 before anybody reads.
const CAPACITY: usize = 12_000;

struct Wrapped(MemoryBroker, Faults);

#[async_trait]
impl Backend for Wrapped {
    async fn connect(&self) -> Connection {
        let Self(_, faults) = *self;
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
    Wrapped(MemoryBroker::with_config(config).expect("the config is valid"), Faults::seeded(0))
});

#[tokio::test]
async fn what_was_not_accepted_of_calls_that_fail_can_be_published_again_in_order() {
    for seed in 0..20 {
        let faults = Faults::seeded(seed).fail_partially(0.5).fail_before_send(0.2);
        let backend = Arc::new(Wrapped(MemoryBroker::new(), faults));
        order::what_was_not_accepted_can_be_published_again_in_order(backend).await;
    }
}
