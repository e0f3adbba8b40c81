//! What is published arrives: all of it, once, on its own topic.

use std::sync::Arc;

use futures::{StreamExt, future::join_all};
use tokio::time::{self, Duration};
use watermill_core::{Message, PublisherExt, subscriber::Ordering, subscription::Health};

use super::{
    fixture::{Consumers, Fixture, close, initialize, message, next, numbered, publish, subscribe, take},
    obligation::{broken, ended, exactly, ok, quiet, require, with_duplicates, within},
};
use crate::{Backend, Collector, Lack, names::unique};

/// P2, P4, P5, S1: messages of one call arrive unchanged, each once; a stream that was stopped ends.
pub async fn published_messages_arrive_as_they_were(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let messages: Vec<_> =
        numbered(100).into_iter().map(|message| message.with_metadata("test", unique("value"))).collect();
    fixture.publish(&messages).await;

    let mut subscription = fixture.subscribe().await;
    let seen = take(&mut subscription, 100).await;
    exactly("P2, P5: what was accepted arrives as it was", &seen, &messages, fixture.ordering());
    quiet("S1: each message comes once", &mut subscription).await;
    subscription.stop_intake();
    ended("S5: a stream that was stopped ends", &mut subscription).await;
    close(subscription).await;
}

/// P1, S1: fifty publishers and fifty consumers of one group, and every message comes once.
pub async fn many_publishers_and_many_consumers_lose_nothing(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let messages = numbered(fixture.many(5_000));
    let consumers = Consumers::start(&fixture.subscriber(), &fixture.topic, 50).await;
    publish_in_parallel(&fixture, &messages, 50).await;
    let seen = consumers.finish(messages.len()).await;
    let duplicates = fixture.duplicates_of(50);
    with_duplicates("P1, S1: nothing is lost or repeated", &seen, &messages, Ordering::None, duplicates);
}

/// P1, P2: what twenty publishers sent in parallel is there after the publisher was closed, all of it.
pub async fn a_closed_publisher_has_sent_everything(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let messages = numbered(fixture.many(10_000));
    publish_in_parallel(&fixture, &messages, 20).await;
    ok("P8: a publisher closes", fixture.publisher().close()).await;
    let consumers = Consumers::start(&fixture.subscriber(), &fixture.topic, 1).await;
    let seen = consumers.finish(messages.len()).await;
    exactly("P2: nothing is left in a buffer", &seen, &messages, Ordering::None);
}

/// P1, S1: twenty topics at once, each with its own messages.
pub async fn topics_in_parallel_do_not_mix(backend: Arc<dyn Backend>) {
    let fixture = Fixture::bare(&backend).await;
    let messages = numbered(100);
    let topics: Vec<_> = (0..20).map(|_| backend.topic(&unique("topic"))).collect();
    let (messages, fixture) = (&messages, &fixture);
    join_all(topics.into_iter().enumerate().map(|(n, topic)| async move {
        let own = |message: &Message| message.clone().with_metadata("topic", n.to_string());
        let own: Vec<_> = messages.iter().map(own).collect();
        initialize(&fixture.subscriber(), &topic).await;
        let mut subscription = subscribe(&fixture.subscriber(), &topic).await;
        let publisher = fixture.publisher();
        let (seen, ()) = tokio::join!(take(&mut subscription, 100), publish(&publisher, &topic, &own));
        close(subscription).await;
        exactly("S1: a topic gets its own messages", &seen, &own, fixture.ordering());
    }))
    .await;
}

/// S1: a subscription gets the messages of its topic only.
pub async fn a_topic_gets_only_its_own_messages(backend: Arc<dyn Backend>) {
    let (a, b) = (Fixture::new(&backend).await, Fixture::new(&backend).await);
    a.publish(&[message("a1")]).await;
    b.publish(&[message("b2")]).await;
    for (fixture, id) in [(a, "a1"), (b, "b2")] {
        fixture.expect_left("S1: a topic gets its own messages", &[message(id)]).await;
    }
}

/// S1: from `initialize` on nothing is missed, however often and from wherever it is called.
pub async fn nothing_is_missed_after_initialize(backend: Arc<dyn Backend>) {
    // P37: two processes that initialise an empty PostgreSQL at once get an error in Go.
    let fixture = Fixture::bare(&backend).await;
    let other = fixture.connect().await;
    let subscribers = [fixture.subscriber(), fixture.subscriber_of(&other)];
    join_all((0..10).map(|n| initialize(&subscribers[n % 2], &fixture.topic))).await;
    let messages = numbered(10);
    fixture.publish(&messages).await;
    initialize(&fixture.subscriber(), &fixture.topic).await;
    fixture.expect_left("S1: nothing is missed after initialize", &messages).await;
}

/// P6: a call without messages is `Ok` and sends nothing.
pub async fn an_empty_call_sends_nothing(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    fixture.publish(&[]).await;
    let mut subscription = fixture.subscribe().await;
    quiet("P6: an empty call sends nothing", &mut subscription).await;
    fixture.publish(&[message("1")]).await;
    let seen = take(&mut subscription, 1).await;
    quiet("P6: an empty call sends nothing", &mut subscription).await;
    close(subscription).await;
    exactly("P6: after an empty call others are accepted", &seen, &[message("1")], fixture.ordering());
}

/// S5: a server that is stopped and started again twice, and the same subscription gets everything.
/// Without a server there is nothing that could be lost: the subscription is healthy all the while.
pub async fn a_restart_of_the_server_loses_nothing(backend: Arc<dyn Backend>) {
    const PUBLISHERS: usize = 100;
    let fixture = Fixture::new(&backend).await;
    let messages = numbered(fixture.many(10_000));
    let mut subscription = fixture.subscribe().await;
    let publishing = join_all(messages.chunks(messages.len().div_ceil(PUBLISHERS)).map(|chunk| {
        let (publisher, topic) = (fixture.publisher(), fixture.topic.as_str());
        async move {
            for message in chunk {
                // An error may still have sent it: those may come twice.
                while let Err(error) = publisher.publish_one(topic, message.clone()).await {
                    require("P3: while the server is away, trying again may help", error.is_retryable());
                    time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }));
    let consuming = async {
        let mut seen = Collector::new();
        let mut restarts = vec![messages.len() / 2, messages.len() / 3];
        while seen.distinct() < messages.len() {
            if fixture.lacks(Lack::Restart) {
                require("S5: without trouble it is healthy", subscription.status().health == Health::Healthy);
                let delivery = next(&mut subscription).await;
                seen.record(&delivery);
                delivery.ack();
                continue;
            }
            let next = within("S5: a subscription reconnects by itself", subscription.next()).await;
            match next {
                Some(Ok(delivery)) => {
                    seen.record(&delivery);
                    delivery.ack();
                }
                Some(Err(error)) => require("S5: trouble that passes can be retried", error.is_retryable()),
                None => broken("S5: the stream goes on", "it ended"),
            }
            if restarts.last().is_some_and(|at| seen.seen().len() >= *at) {
                restarts.pop();
                within("S5: the server restarts", backend.restart()).await;
            }
        }
        seen
    };
    let (_, seen) = tokio::join!(publishing, consuming);
    close(subscription).await;
    // A fault each may repeat what each publisher had in hand, and what the consumer had.
    let duplicates = if fixture.lacks(Lack::Restart) { 0 } else { 2 * (PUBLISHERS + 1) };
    with_duplicates("S5: a restart loses nothing", &seen, &messages, Ordering::None, duplicates);
}

/// Publishes one by one from several tasks, each a part.
async fn publish_in_parallel(fixture: &Fixture, messages: &[Message], publishers: usize) {
    let mut tasks = tokio::task::JoinSet::new();
    for chunk in messages.chunks(messages.len().div_ceil(publishers)) {
        let (publisher, topic, chunk) = (fixture.publisher(), fixture.topic.clone(), chunk.to_vec());
        tasks.spawn(async move {
            for message in chunk {
                ok("P1: a call beside others is accepted", publisher.publish_one(&topic, message)).await;
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    }
}
