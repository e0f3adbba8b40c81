//! Joins what wraps publishers and subscribers to the conformance suite, over the in-memory backend.

mod claim_check;
mod fan_out;
mod hold_until_due;

use watermill_core::memory::{History, MemoryBroker, MemoryConfig};

/// Messages that a group holds: the large tests of the suite publish 10,000 before anybody reads.
const CAPACITY: usize = 12_000;

fn broker(history: History) -> MemoryBroker {
    let config = MemoryConfig::default().capacity(CAPACITY).history(history);
    MemoryBroker::with_config(config).expect("the config is valid")
}
