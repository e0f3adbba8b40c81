//! A backend with one fault: the in-memory one behind wrappers that break a promise each.

mod control;
mod lease;
mod publisher;
mod subscriber;

use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle;
use watermill_core::memory::{MemoryBroker, MemoryConfig};
use watermill_testkit::{Backend, Connection, Lack, Limits};

use lease::LeasedSubscriber;
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
    CutsLongMetadata,
    TakesEmptyKeysForNone,
    ReplacesBytesOfKeys,
    HidesSameIds,
    SplitsCalls,
    NeverWaits,
    PublishesAfterClose,
    AcceptsEmptyTopics,
    IgnoresLimits,
    SkipsWhatIsRefused,
    IgnoresDelays,
    ClaimsDelays,

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
    ConfirmsAcksOnly,
    ReusesTokens,
    ConfirmsLateAcks,
    IgnoresTheTotal,
    IgnoresWhatIsHandled,
    ForgetsWhatIsOutstanding,
    StaysHealthy,
    ForgetsTheDead,
    NeverRenews,
}

pub(crate) struct Broken {
    fault: Fault,
    broker: MemoryBroker,
    /// Where the server of this backend runs, which outlives its clients.
    server: Handle,
}

const CAPACITY: usize = 12_000;
const PAYLOAD_MAX: usize = 2 * 1024 * 1024;
const LEASE: Duration = Duration::from_millis(400);

impl Broken {
    pub(crate) fn new(fault: Fault) -> Self {
        let config = MemoryConfig::default().capacity(CAPACITY);
        let broker = MemoryBroker::with_config(config).expect("the config is valid");
        Self { fault, broker, server: Handle::current() }
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

    async fn connect_with_timeout(&self) -> Option<(Connection, Duration)> {
        let publisher = BrokenPublisher::new(self.broker.publisher(), self.fault);
        let subscriber = LeasedSubscriber::new(self.broker.subscriber(), self.server.clone(), self.fault);
        Some((Connection::new(publisher, subscriber), LEASE))
    }

    fn lacks(&self) -> &[Lack] {
        &[Lack::Restart, Lack::History]
    }

    fn limits(&self) -> Limits {
        Limits::default().payload_max(PAYLOAD_MAX)
    }

    fn capacity(&self) -> Option<usize> {
        Some(CAPACITY)
    }
}
