//! With this crate.

use std::{
    convert::Infallible,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use redis::Client;
use tokio::time::{Instant, sleep};
use watermill_core::{
    Handler, Message, Publisher as _, Router, State, Subscriber as _, Subscription, Window,
};
use watermill_testkit::{unique, workload};

use crate::{CALL, CALLS, MESSAGES, full, publisher, remove, subscriber};

/// How exactly the end is seen.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

type First = Arc<OnceLock<Instant>>;

pub(crate) async fn publish(client: &Client) -> Duration {
    let (topic, publisher) = (unique("topic"), publisher(client));
    publisher.publish(&topic, vec![workload::message(0)]).await.expect("it is accepted");
    let calls: Vec<Vec<Message>> = workload::calls(MESSAGES, CALL).collect();
    let started = Instant::now();
    let mut sent = stream::iter(calls).map(|messages| publisher.publish(&topic, messages)).buffered(CALLS);
    while let Some(sent) = sent.next().await {
        sent.expect("it is accepted");
    }
    let took = started.elapsed();
    remove(client, &topic).await;
    took
}

/// From the first message to the last, each acked.
pub(crate) async fn subscribe(client: &Client) -> Duration {
    let topic = full(client).await;
    let mut subscription: Subscription = subscriber(client).subscribe(&topic).await.expect("it is there");
    subscription.set_window(Window::ordered(CALL.try_into().expect("not zero")));
    let mut started = None;
    for _ in 0..MESSAGES {
        let delivery = subscription.next().await.expect("the stream goes on").expect("no error");
        started.get_or_insert_with(Instant::now);
        delivery.ack();
    }
    // Until the last ack is recorded.
    subscription.close().await.expect("a clean end");
    let took = started.expect("there are messages").elapsed();
    remove(client, &topic).await;
    took
}

/// From the first message that is handled to the ack of the last one.
pub(crate) async fn router(client: &Client) -> Duration {
    let topic = full(client).await;
    let first = First::default();
    let handler = Handler::new("nothing", nothing).from(subscriber(client), &*topic);
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
    remove(client, &topic).await;
    took.expect("all were handled")
}

async fn nothing(State(first): State<First>) -> Result<(), Infallible> {
    first.get_or_init(Instant::now);
    Ok(())
}
