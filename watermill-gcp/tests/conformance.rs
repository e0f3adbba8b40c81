//! Joins Google's emulator to the conformance suite.

use async_trait::async_trait;
use watermill_gcp::{
    NewSubscription, PubSubAccess, PubSubPublisher, PubSubPublisherConfig, PubSubSubscriber,
    PubSubSubscriberConfig,
};
use watermill_testkit::{Backend, Connection, Lack, Limits, Service};

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
        // The emulator keeps nothing when it is restarted, see `tests/emulator/restart.rs`; and it goes on sending
        // to a consumer that hangs with its connections open.
        &[Lack::History, Lack::Redelivered, Lack::StableOwnership, Lack::ConsumerTimeout, Lack::Restart]
    }

    fn limits(&self) -> Limits {
        Limits::default()
            .payload_max(9_900_000)
            .ids(|id| id.len() <= 1_024)
            .keys(|key| key.len() <= 700)
            .metadata_max(98)
            .metadata(|name, value| {
                !name.starts_with("goog") && (1..=256).contains(&name.len()) && value.len() <= 1_024
            })
    }

    /// The emulator knows no flow control. Of thousands of messages many are on their way when a stream ends,
    /// and each comes again only when its lease has passed; a hundred come at once.
    fn scale(&self) -> usize {
        50
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
