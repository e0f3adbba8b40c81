//! Joins Google's emulator to the conformance suite.

use async_trait::async_trait;
use watermill_gcp::{
    NewSubscription, PubSubAccess, PubSubPublisher, PubSubPublisherConfig, PubSubSubscriber,
    PubSubSubscriberConfig,
};
use watermill_testkit::{Backend, Connection, Lack, Service};

struct PubSub {
    access: PubSubAccess,
}

#[async_trait]
impl Backend for PubSub {
    async fn connect(&self) -> Connection {
        let publishing = PubSubPublisherConfig::new(self.access.clone()).create_topics(true);
        let publisher = PubSubPublisher::new(publishing).await.expect("a valid config");
        let reading = PubSubSubscriberConfig::new(self.access.clone())
            .create_topics(true)
            .create_subscriptions(NewSubscription::new())
            .dead_letter_topic(DEAD_LETTERS);
        let subscriber = PubSubSubscriber::new(reading).await.expect("a valid config");
        Connection::new(publisher, subscriber)
    }

    fn lacks(&self) -> &[Lack] {
        &[
            Lack::AtomicPublish,
            Lack::TotalOrder,
            Lack::History,
            Lack::NackDelay,
            Lack::Redelivered,
            Lack::StableOwnership,
            // The emulator keeps nothing; see `restart.rs`.
            Lack::Restart,
        ]
    }

    /// The emulator knows no flow control. Of thousands of messages many are on their way when a stream ends,
    /// and each comes again only when its lease has passed.
    fn scale(&self) -> usize {
        10
    }

    fn invalid_topics(&self) -> Vec<String> {
        ["", "ab", "1topic", "googles", "a b", "a/b", "größe", &"t".repeat(256)].map(str::to_owned).to_vec()
    }

    fn dead_letter_topic(&self, _topic: &str) -> Option<String> {
        Some(DEAD_LETTERS.to_owned())
    }
}

const DEAD_LETTERS: &str = "dead";

/// The emulator takes any project.
fn project() -> String {
    watermill_testkit::unique("project")
}

watermill_testkit::conformance!(PubSub {
    access: PubSubAccess::new(project()).emulator(Service::PUBSUB.url()),
});
