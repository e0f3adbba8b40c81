//! Joins the in-memory backend to the conformance suite.

use async_trait::async_trait;
use watermill_core::memory::{History, MemoryBroker, MemoryConfig};
use watermill_testkit::{Backend, Connection, Lack};

/// Messages that a group holds: the large tests of the suite publish 10,000 before anybody reads.
const CAPACITY: usize = 12_000;

struct Memory {
    broker: MemoryBroker,
    lacks: &'static [Lack],
}

impl Memory {
    fn new(history: History, lacks: &'static [Lack]) -> Self {
        let config = MemoryConfig::default().capacity(CAPACITY).history(history);
        Self { broker: MemoryBroker::with_config(config).expect("the config is valid"), lacks }
    }
}

#[async_trait]
impl Backend for Memory {
    async fn connect(&self) -> Connection {
        Connection::new(self.broker.publisher(), self.broker.subscriber())
    }

    fn lacks(&self) -> &[Lack] {
        self.lacks
    }

    fn capacity(&self) -> Option<usize> {
        Some(CAPACITY)
    }
}

mod without_history {
    use super::*;

    watermill_testkit::conformance!(Memory::new(
        History::None,
        &[Lack::ConsumerTimeout, Lack::Restart, Lack::History],
    ));
}

mod with_history {
    use super::*;

    watermill_testkit::conformance!(Memory::new(History::All, &[Lack::ConsumerTimeout, Lack::Restart],));
}
