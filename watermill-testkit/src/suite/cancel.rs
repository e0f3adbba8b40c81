//! Futures that are dropped half way: nothing breaks, nothing is lost.

use std::{future::Future, pin::pin, sync::Arc, task::Poll, time::Duration};

use futures::StreamExt;
use tokio::{task, time};
use watermill_core::{Message, PublisherExt, subscriber::Ordering};

use super::{
    fixture::{Fixture, close, delivered, message, next, numbered, subscribe},
    obligation::{broken, exactly, ok, quiet, within},
};
use crate::{Backend, Collector};

/// Cancel safety of `publish`: all, some or none of a dropped call arrive, all or none where calls
/// are atomic; the publisher stays usable and no other call is touched.
pub async fn a_dropped_publish_leaves_the_publisher_usable(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let atomic = fixture.publisher().capabilities().atomic;
    let publisher = fixture.publisher();
    let mut accepted = Vec::new();
    let mut calls = Vec::new();
    for n in 0..30 {
        let call: Vec<_> =
            (0..3).map(|m| message(format!("{n:02}{m}")).with_key(format!("call-{n}"))).collect();
        let dropped = run_a_while(publisher.publish(&fixture.topic, call.clone()), n).await;
        if let Some(result) = dropped {
            result.unwrap_or_else(|error| broken("P2: a valid call is accepted", error));
            accepted.extend(call.clone());
        }
        calls.push(call);
        let other = message(format!("9{n:02}"));
        ok(
            "P8: a dropped call leaves the publisher usable",
            publisher.publish_one(&fixture.topic, other.clone()),
        )
        .await;
        accepted.push(other);
    }

    let mut subscription = fixture.subscribe().await;
    let mut seen = Collector::new();
    while !accepted.iter().all(|message| seen.seen().contains(message)) {
        record_next(&mut subscription, &mut seen).await;
    }
    // What was dropped may be on its way still.
    while let Ok(next) = time::timeout(Duration::from_millis(200), subscription.next()).await {
        let delivery = delivered(next);
        seen.record(&delivery);
        delivery.ack();
    }
    close(subscription).await;

    let arrived = |message: &Message| seen.seen().contains(message);
    let mut expected: Vec<_> = accepted.clone();
    for call in &calls {
        let of_call = call.iter().filter(|message| arrived(message)).count();
        if atomic && of_call != 0 && of_call != 3 {
            broken("P3: a call is all or none, as claimed", format_args!("{of_call} of 3 messages arrived"));
        }
        let late = call.iter().filter(|message| arrived(message) && !accepted.contains(message));
        expected.extend(late.cloned());
    }
    exactly("P2: a dropped call touches no other", &seen, &expected, Ordering::None);
}

/// Cancel safety of the stream: a `next` that is dropped has lost nothing.
pub async fn a_dropped_next_loses_nothing(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let messages = numbered(300);
    let mut subscription = fixture.subscribe().await;
    let publishing = async {
        for call in messages.chunks(10) {
            fixture.publish(call).await;
        }
    };
    let consuming = async {
        let mut seen = Collector::new();
        let mut round = 0;
        while seen.seen().len() < 300 {
            round += 1;
            let next = match run_a_while(subscription.next(), round % 30).await {
                Some(next) => next,
                // Now and then it may take its time, or a slow backend would never get on.
                None if round % 10 == 0 => {
                    within("S1: the next message is delivered", subscription.next()).await
                }
                None => continue,
            };
            let delivery = delivered(next);
            seen.record(&delivery);
            delivery.ack();
        }
        seen
    };
    let ((), seen) = tokio::join!(publishing, consuming);
    quiet("S1: each message comes once", &mut subscription).await;
    close(subscription).await;
    exactly("S1: a dropped next has lost nothing", &seen, &messages, fixture.ordering());
}

/// Cancel safety of `subscribe`: a dropped call leaves no subscription behind that takes messages.
pub async fn a_dropped_subscribe_leaves_nothing_behind(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let messages = numbered(20);
    fixture.publish(&messages).await;
    let subscriber = fixture.subscriber();
    for n in 0..30 {
        let finished = run_a_while(subscriber.subscribe(&fixture.topic), n).await;
        if let Some(Err(error)) = finished {
            broken("S1: a topic can be subscribed to", error);
        }
    }
    let mut subscription = subscribe(&subscriber, &fixture.topic).await;
    let mut seen = Collector::new();
    for _ in 0..20 {
        record_next(&mut subscription, &mut seen).await;
    }
    quiet("S1: each message comes once", &mut subscription).await;
    close(subscription).await;
    exactly("S1: a dropped subscribe keeps nothing", &seen, &messages, fixture.ordering());
}

async fn record_next(subscription: &mut watermill_core::Subscription, seen: &mut Collector) {
    let delivery = next(subscription).await;
    seen.record(&delivery);
    delivery.ack();
}

/// Drives a future for a while and drops it, unless it finished: even `n` for some polls, odd `n` for
/// some time, so that futures that do I/O are dropped at different places too.
async fn run_a_while<F: Future>(future: F, n: u32) -> Option<F::Output> {
    let mut future = pin!(future);
    if n % 2 == 1 {
        return time::timeout(Duration::from_micros(u64::from(n) * 100), future).await.ok();
    }
    for _ in 0..n / 2 {
        if let Poll::Ready(output) = futures::poll!(&mut future) {
            return Some(output);
        }
        task::yield_now().await;
    }
    None
}
