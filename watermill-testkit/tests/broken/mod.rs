//! A backend with one fault: the in-memory one behind wrappers that break a promise each.

mod publisher;
mod subscriber;

use async_trait::async_trait;
use watermill_core::memory::{MemoryBroker, MemoryConfig};
use watermill_testkit::{Backend, Connection, Lack};

use publisher::BrokenPublisher;
use subscriber::BrokenSubscriber;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// To see that a test fails because of the fault, and of nothing else.
    None,

    DropsMessages,
    DuplicatesMessages,
    SwapsMessages,
    OvertakesItself,
    DropsEmptyMetadata,
    FoldsMetadataNames,
    TakesEmptyKeysForNone,
    ReplacesBytesOfKeys,
    HidesSameIds,
    SplitsCalls,
    NeverWaits,
    PublishesAfterClose,
    AcceptsEmptyTopics,

    AcksWhatIsNacked,
    AcksLazily,
    NacksWhatIsRejected,
    IgnoresNackDelays,
    ForgetsToCancel,
    SendsNackedToTheEnd,
    IgnoresTheWindow,
    MixesGroups,
    EndsInSilence,
    SubscribesAfterClose,
    ClaimsDeadLetters,
    StartsFromNow,
    LosesWhatNextWasDropped,
}

pub(crate) struct Broken {
    fault: Fault,
    broker: MemoryBroker,
}

const CAPACITY: usize = 12_000;

impl Broken {
    pub(crate) fn new(fault: Fault) -> Self {
        let config = MemoryConfig::default().capacity(CAPACITY);
        Self { fault, broker: MemoryBroker::with_config(config).expect("the config is valid") }
    }
}

#[async_trait]
impl Backend for Broken {
    async fn connect(&self) -> Connection {
        Connection::new(
            BrokenPublisher::new(self.broker.publisher(), self.fault),
            BrokenSubscriber::new(self.broker.subscriber(), self.fault),
        )
    }

    fn lacks(&self) -> &[Lack] {
        &[Lack::Persistence, Lack::Restart, Lack::DeadLetters, Lack::History]
    }

    fn capacity(&self) -> Option<usize> {
        Some(CAPACITY)
    }
}
