//! With this crate.

use std::{
    convert::Infallible,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::StreamExt;
use tokio::time::{Instant, sleep};
use watermill_core::{Handler, Message, Publisher as _, Router, State, Subscriber as _};
use watermill_testkit::workload;

use crate::{CALL, KEYS, MESSAGES, Place};

/// How exactly the end is seen.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

type First = Arc<OnceLock<Instant>>;

pub(crate) async fn publish(place: &Place) -> Duration {
    let topic = place.topic(0, None).await;
    let publisher = place.publisher().await;
    publisher.publish(&topic, vec![workload::message(0)]).await.expect("it is accepted");
    let calls: Vec<Vec<Message>> = workload::calls(MESSAGES, CALL).collect();
    let started = Instant::now();
    for messages in calls {
        publisher.publish(&topic, messages).await.expect("it is accepted");
    }
    started.elapsed()
}

/// From the first message to the last, each acked.
pub(crate) async fn subscribe(place: &Place) -> Duration {
    let topic = place.topic(MESSAGES, None).await;
    let mut subscription = place.subscriber().await.subscribe(&topic).await.expect("it is there");
    let mut started = None;
    for _ in 0..MESSAGES {
        let delivery = subscription.next().await.expect("the stream goes on").expect("no error");
        started.get_or_insert_with(Instant::now);
        delivery.ack();
    }
    started.expect("there are messages").elapsed()
}

pub(crate) async fn router(place: &Place) -> Duration {
    let topic = place.topic(MESSAGES, None).await;
    let handler = Handler::new("nothing", nothing).from(place.subscriber().await, topic);
    let first = First::default();
    run(Router::new().with_state(first.clone()).add(handler), first).await
}

pub(crate) async fn move_all(place: &Place) -> Duration {
    let (from, to) = (place.topic(MESSAGES, Some(KEYS)).await, place.topic(0, None).await);
    let handler =
        Handler::new("move", pass).from(place.subscriber().await, from).to(place.publisher().await, to);
    let first = First::default();
    run(Router::new().with_state(first.clone()).add(handler), first).await
}

/// From the first message that is handled to the ack of the last one.
async fn run(router: Router<First>, first: First) -> Duration {
    let control = router.control();
    let mut took = None;
    let all_acked = async {
        while control.handlers().iter().map(|handler| handler.counts.acked).sum::<u64>() < MESSAGES as u64 {
            sleep(LOOK_INTERVAL).await;
        }
        took = first.get().map(Instant::elapsed);
    };
    router.run_until(all_acked).await.expect("a clean end");
    took.expect("all were handled")
}

async fn nothing(State(first): State<First>) -> Result<(), Infallible> {
    first.get_or_init(Instant::now);
    Ok(())
}

async fn pass(State(first): State<First>, message: Message) -> Message {
    first.get_or_init(Instant::now);
    message
}
