//! What was taken by another owner of its scope: whoever has it now publishes it.

use std::future::pending;

use tokio::time::sleep;
use watermill_core::Message;
use watermill_forwarder::{Envelope, FencedForwarder};
use watermill_testkit::{ScriptedDelivery, ScriptedSubscriber};

use crate::destination::{COMMIT, Destination, NAME};

/// An envelope for the topic `a`, in a partition of its own.
fn of_partition(partition: i32, id: i64) -> ScriptedDelivery {
    let message = Message::with_id(id.to_string(), "x");
    ScriptedDelivery::new(Envelope::new("a", message).wrap()).partition(partition).offset(id)
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_while_a_term_begins_is_not_published_and_other_partitions_are() {
    let (source, destination) = (ScriptedSubscriber::new(), Destination::default());
    for id in 0..6 {
        source.push(of_partition((id % 2) as i32, id));
    }
    let relay = FencedForwarder::builder(source.clone(), destination.clone(), NAME);
    let running = tokio::spawn(relay.build().expect("a good configuration").run_until(pending()));
    source.await_handed_out(6).await;
    source.revoke(0);
    source.settled(3).await;

    assert_eq!(destination.published("a"), ["1", "3", "5"]);
    sleep(COMMIT * 100).await;
    assert_eq!(destination.published("a").len(), 3, "what is lost stays with its new owner");
    running.abort();
}
