//! A subscriber that holds messages until they are due, of which none says that it is due later.

use std::time::Duration;

use async_trait::async_trait;
use watermill_core::{
    delay::HoldUntilDue,
    memory::{History, MemoryBroker},
};
use watermill_testkit::{Backend, Connection, Lack};

use super::{CAPACITY, broker};

struct Holding(MemoryBroker);

#[async_trait]
impl Backend for Holding {
    async fn connect(&self) -> Connection {
        let longest = Duration::from_secs(60);
        Connection::new(self.0.publisher(), HoldUntilDue::new(self.0.subscriber(), longest))
    }

    fn lacks(&self) -> &[Lack] {
        &[Lack::ConsumerTimeout, Lack::Restart]
    }

    fn capacity(&self) -> Option<usize> {
        Some(CAPACITY)
    }
}

watermill_testkit::conformance!(Holding(broker(History::All)));
