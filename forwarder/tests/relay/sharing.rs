//! What may be held is shared: by destinations, and by keys of a destination.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::sleep;
use watermill_core::{
    Message, Publisher, delivery::Outcome, error::PublishError, publisher::PublisherCapabilities,
    subscriber::Ordering,
};
use watermill_forwarder::Forwarder;
use watermill_testkit::ScriptedSubscriber;

use super::support::{Picky, config, envelope, keyed, start};

/// Calls to the topic `hangs` never come back.
struct Hanging(Picky);

#[async_trait]
impl Publisher for Hanging {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        if topic == "hangs" {
            std::future::pending::<()>().await;
        }
        self.0.publish(topic, messages).await
    }

    async fn close(&self) -> Result<(), PublishError> {
        Ok(())
    }

    fn capabilities(&self) -> PublisherCapabilities {
        self.0.capabilities()
    }
}

fn given_back(source: &ScriptedSubscriber) -> usize {
    source.outcomes().iter().filter(|(_, outcome)| matches!(outcome, Outcome::Nack { .. })).count()
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_hangs_holds_its_share_and_the_others_have_the_rest() {
    let source = ScriptedSubscriber::new().ordering(Ordering::None);
    let destination = Picky::new();
    for id in 0..200 {
        source.push(envelope("hangs", &format!("h{id}")));
        source.push(envelope("orders", &id.to_string()));
    }
    let config = config().max_blocked(40);
    let running = start(Forwarder::builder(source.clone(), Hanging(destination.clone())).config(config));
    sleep(Duration::from_secs(600)).await;
    assert_eq!(destination.published("orders").len(), 200);
    let held = 200 - given_back(&source);
    // Half of what may be held, and what was taken before it was seen to hang.
    assert!((20..=20 + 20).contains(&held), "{held}");
    running.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_that_hangs_holds_its_share_and_other_keys_have_the_rest() {
    let source = ScriptedSubscriber::new().ordering(Ordering::None);
    let destination = Picky::new();
    for id in 0..200 {
        source.push(keyed("orders", "waits", &format!("w{id}")));
        source.push(keyed("orders", "goes", &id.to_string()));
    }
    let forwarder = Forwarder::builder(source.clone(), destination.clone()).config(config().max_blocked(40));
    let forwarder = forwarder.build().unwrap();
    let control = forwarder.control();
    control.pause("orders", Some("waits".into()));
    let running = tokio::spawn(forwarder.run_until(std::future::pending()));
    sleep(Duration::from_secs(600)).await;
    assert_eq!(destination.published("orders").len(), 200);
    let held: usize = control.status().held.iter().map(|held| held.messages).sum();
    assert_eq!(held, 10, "a quarter of what may be held");
    assert_eq!(given_back(&source), 190);
    running.abort();
}
