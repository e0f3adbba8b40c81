//! Partitions that move while their messages are being handled.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt;
use tokio::{task::JoinHandle, time};
use tokio_util::sync::CancellationToken;
use watermill_core::{Subscriber as _, error::SettleErrorKind};
use watermill_testkit::unique;

use crate::support::{config, messages, next, ordered, publish, quiet, subscriber, topic, within};

const PARTITIONS: usize = 6;
const WINDOW: usize = 4;

/// How often each message was handled.
type Seen = Arc<Mutex<HashMap<String, usize>>>;

/// A consumer that works on several messages at once, and acks them in their order.
struct Worker {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Worker {
    fn start(topic: &str, group: &str, seen: &Seen) -> Self {
        let (topic, seen, stop) = (topic.to_owned(), seen.clone(), CancellationToken::new());
        let subscriber = subscriber(config().group(group));
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut subscription = subscriber.subscribe(&topic).await.expect("it subscribes");
            subscription.set_window(ordered(WINDOW));
            let mut held = VecDeque::new();
            loop {
                let room = held.len() < WINDOW * PARTITIONS;
                tokio::select! {
                    next = subscription.next(), if room => {
                        let delivery = next.expect("the stream goes on").expect("the stream has no error");
                        *seen.lock().unwrap().entry(delivery.id().to_string()).or_default() += 1;
                        held.push_back(delivery);
                    }
                    // The work on the oldest takes its time.
                    () = time::sleep(Duration::from_millis(1)), if !held.is_empty() => {
                        held.pop_front().into_iter().for_each(watermill_core::Delivery::ack);
                    }
                    () = stopped.cancelled() => break,
                }
            }
            held.into_iter().for_each(watermill_core::Delivery::ack);
            subscription.close().await.expect("it closes");
        });
        Self { stop, task }
    }

    async fn stop(self) {
        self.stop.cancel();
        within("a worker stops", self.task).await.expect("no panic");
    }

    /// As when its runtime ends: it says nothing.
    fn abort(self) {
        self.task.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_members_come_and_go_nothing_is_lost_and_what_was_in_hand_comes_twice_at_most() {
    const MESSAGES: usize = 4_000;
    let (topic, group) = (topic(PARTITIONS as i32).await, unique("group"));
    let seen = Seen::default();
    let distinct = || seen.lock().unwrap().len();
    let reach = async |messages: usize| {
        while distinct() < messages {
            // Progress counts, not the time that all of it takes.
            let before = distinct();
            within("the workers get on", async {
                while distinct() == before {
                    time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
        }
    };
    publish(&topic, &messages(0..MESSAGES, 100)).await;
    let first = Worker::start(&topic, &group, &seen);
    reach(MESSAGES / 5).await;
    let second = Worker::start(&topic, &group, &seen);
    reach(MESSAGES * 2 / 5).await;
    let third = Worker::start(&topic, &group, &seen);
    reach(MESSAGES * 3 / 5).await;
    first.stop().await;
    reach(MESSAGES * 4 / 5).await;
    second.abort();
    reach(MESSAGES).await;
    third.stop().await;

    // Each of the five changes moved the window of each partition at most.
    let handled: usize = seen.lock().unwrap().values().sum();
    let twice = handled - MESSAGES;
    assert!(twice <= 5 * PARTITIONS * WINDOW, "{twice} were handled twice");
    let mut left = subscriber(config().group(&group)).subscribe(&topic).await.expect("it subscribes");
    quiet(&mut left).await;
    left.close().await.expect("it closes");
}

#[tokio::test]
async fn acks_of_a_revoked_partition_do_not_count_and_its_handlers_are_told() {
    let (topic, group) = (topic(2).await, unique("group"));
    publish(&topic, &messages(0..20, 20)).await;
    let mut first = subscriber(config().group(&group)).subscribe(&topic).await.expect("it subscribes");
    let held = [next(&mut first).await, next(&mut first).await].map(|delivery| {
        let cancellation = delivery.cancellation();
        (delivery, cancellation)
    });
    let partition = |at: usize| held[at].0.info().partition();
    assert_ne!(partition(0), partition(1), "one of each partition");

    // One partition moves to another member, which is given what is not acked.
    let mut second = subscriber(config().group(&group)).subscribe(&topic).await.expect("it subscribes");
    let again = next(&mut second).await;
    let [(moved, moved_away), (kept, kept_away)] = match held {
        [a, b] if a.0.info().partition() == again.info().partition() => [a, b],
        [a, b] => [b, a],
    };
    assert_eq!(again.id(), moved.id());
    within("the handler is told", moved_away.cancelled()).await;
    assert!(!kept_away.is_cancelled());
    let lost = within("the answer", moved.ack_confirmed()).await.unwrap_err();
    assert_eq!(lost.kind(), SettleErrorKind::Lost);
    within("the answer", kept.ack_confirmed()).await.expect("it is ours still");

    // Its new owner gives it up too, and it comes once more: nobody has committed past it.
    let id = again.id().clone();
    second.close().await.expect("it closes");
    loop {
        let delivery = next(&mut first).await;
        let found = delivery.id() == &id;
        delivery.ack();
        if found {
            break;
        }
    }
    first.close().await.expect("it closes");
}
