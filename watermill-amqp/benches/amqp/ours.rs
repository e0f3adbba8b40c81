//! With this crate.

use std::{
    convert::Infallible,
    hint::black_box,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::StreamExt;
use tokio::time::{Instant, sleep};
use watermill_core::{Handler, Message, Publisher as _, Router, State, Subscriber as _};
use watermill_testkit::workload;

use crate::{CALL, MESSAGES, publisher, queue, subscriber};

/// How exactly the end is seen.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

type First = Arc<OnceLock<Instant>>;

pub(crate) async fn publish() -> Duration {
    let topic = queue(0).await;
    let publisher = publisher();
    publisher.publish(&topic, vec![workload::message(0)]).await.expect("it is accepted");
    let calls: Vec<Vec<Message>> = workload::calls(MESSAGES, CALL).collect();
    let started = Instant::now();
    for messages in calls {
        publisher.publish(&topic, messages).await.expect("it is accepted");
    }
    started.elapsed()
}

/// From the first message to the last, id and metadata read, each acked.
pub(crate) async fn subscribe() -> Duration {
    let topic = queue(MESSAGES).await;
    let mut subscription = subscriber().subscribe(&topic).await.expect("it is there");
    let mut started = None;
    for _ in 0..MESSAGES {
        let delivery = subscription.next().await.expect("the stream goes on").expect("no error");
        started.get_or_insert_with(Instant::now);
        black_box((delivery.id(), delivery.payload()));
        delivery.metadata().iter().for_each(|entry| {
            black_box(entry);
        });
        delivery.ack();
    }
    started.expect("there are messages").elapsed()
}

/// From the first message that is handled to the ack of the last one.
pub(crate) async fn router() -> Duration {
    let topic = queue(MESSAGES).await;
    let handler = Handler::new("nothing", nothing).from(subscriber(), topic);
    let first = First::default();
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
    took.expect("all were handled")
}

async fn nothing(State(first): State<First>) -> Result<(), Infallible> {
    first.get_or_init(Instant::now);
    Ok(())
}
