//! With this crate: a router with one handler that returns the message it was given.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use watermill_core::{Handler, Message, Publisher, Router, State};
use watermill_kafka::{
    KafkaExactlyOncePublisher, KafkaPublisher, KafkaPublisherConfig, KafkaSubscriber, KafkaSubscriberConfig,
};
use watermill_testkit::unique;

use crate::{MESSAGES, Way};

/// How exactly the end is seen.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

pub(crate) async fn move_all(way: &Way) -> Duration {
    let publisher = KafkaPublisher::new(KafkaPublisherConfig::new(&way.brokers)).expect("a valid config");
    run(way, subscriber(way), publisher).await
}

/// The same in transactions, with the acks.
pub(crate) async fn move_all_exactly_once(way: &Way) -> Duration {
    let (subscriber, config) = (subscriber(way), KafkaPublisherConfig::new(&way.brokers));
    let publisher =
        KafkaExactlyOncePublisher::new(config, unique("id"), &subscriber).expect("a valid config");
    run(way, subscriber, publisher).await
}

fn subscriber(way: &Way) -> KafkaSubscriber {
    let reading = KafkaSubscriberConfig::new(&way.brokers).group(unique("ours"));
    KafkaSubscriber::new(reading).expect("a valid config")
}

/// From the first message that is handled to the ack of the last one.
async fn run(way: &Way, subscriber: KafkaSubscriber, publisher: impl Publisher + 'static) -> Duration {
    let first = Arc::new(OnceLock::new());
    let handler = Handler::new("move", pass).from(subscriber, &*way.from).to(publisher, &*way.to);
    let router = Router::new().with_state(first.clone()).add(handler);
    let control = router.control();
    let mut took = None;
    let all_acked = async {
        while control.handlers().iter().map(|handler| handler.counts.acked).sum::<u64>() < MESSAGES as u64 {
            sleep(LOOK_INTERVAL).await;
        }
        took = first.get().map(Instant::elapsed);
    };
    router.run_until(all_acked).await.expect("a clean end");
    took.expect("all were moved")
}

async fn pass(State(first): State<Arc<OnceLock<Instant>>>, message: Message) -> Message {
    first.get_or_init(Instant::now);
    message
}
