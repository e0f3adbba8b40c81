//! Bounds: a slow consumer does not grow memory.

use std::sync::Arc;

use watermill_core::{Delivery, PublisherExt, subscriber::Ordering};

use super::{
    fixture::{Consumers, Fixture, close, hold, message, numbered, ordered, take},
    obligation::{exactly, ok, require, waits, with_duplicates, within},
};
use crate::Backend;

/// P7, S6: nobody reads, and publishing waits once the topic is full; each ack makes room for one
/// more. Where messages lie in a store there is no such bound, and they do outlive the process.
pub async fn a_slow_consumer_slows_its_publisher_down(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let Some(capacity) = backend.capacity() else {
        require(
            "P7: messages that lie in the memory of this process have a bound, `Backend::capacity`",
            fixture.capabilities().persistent,
        );
        return;
    };
    require("P7: a topic has room for the 12,000 messages of the large tests", capacity >= 12_000);
    let messages = numbered(capacity + 1);
    let (fitting, more) = messages.split_at(capacity);
    for call in fitting.chunks(1_000) {
        fixture.publish(call).await;
    }
    let publisher = fixture.publisher();
    let mut waiting = publisher.publish(&fixture.topic, more.to_vec());
    waits("P7: a publish to a full topic waits", &mut waiting).await;

    let mut subscription = fixture.subscribe().await;
    let mut seen = take(&mut subscription, 1).await;
    ok("P7: an ack makes room for what waits", waiting).await;
    for message in take(&mut subscription, capacity).await.seen() {
        seen.record(message);
    }
    close(subscription).await;
    exactly("P7: what waited for room arrives like any other", &seen, &messages, fixture.ordering());
}

/// S6, S7: what was fetched ahead for a consumer that stopped is free for the others at once.
pub async fn what_was_fetched_ahead_is_given_back(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let messages = numbered(200);
    fixture.publish(&messages).await;
    let mut greedy = fixture.subscribe().await;
    greedy.set_window(ordered(100));
    let first = hold(&mut greedy, 1).await;
    let id = first[0].id().clone();
    first.into_iter().for_each(Delivery::ack);
    close(greedy).await;
    let left: Vec<_> = messages.into_iter().filter(|message| *message.id() != id).collect();
    fixture.expect_left("S7: what was fetched and not handed out is free at once", &left).await;
}

/// P1, S1: publishers and consumers of many connections at once.
pub async fn many_connections_work_side_by_side(backend: Arc<dyn Backend>) {
    const CONNECTIONS: usize = 5;
    let fixture = Fixture::new(&backend).await;
    let mut subscribers = Vec::new();
    let mut expected = Vec::new();
    let mut publishing = tokio::task::JoinSet::new();
    for connection in 0..CONNECTIONS {
        let messages: Vec<_> = (0..100).map(|n| message(format!("{connection}{n:03}"))).collect();
        expected.extend(messages.clone());
        let own = fixture.connect().await;
        subscribers.push((fixture.subscriber_of(&own), own.clone()));
        let topic = fixture.topic.clone();
        publishing.spawn(async move {
            for message in messages {
                ok("P1: a call beside others is accepted", own.publisher.publish_one(&topic, message)).await;
            }
        });
    }
    let mut consumers = Consumers::default();
    for (subscriber, _) in &subscribers {
        consumers.add(subscriber, &fixture.topic, 2).await;
    }
    within("P1: calls side by side end", async {
        while let Some(ended) = publishing.join_next().await {
            ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        }
    })
    .await;
    let seen = consumers.finish(expected.len()).await;
    let duplicates = fixture.duplicates_of(2 * CONNECTIONS);
    with_duplicates("S1: many consumers lose nothing", &seen, &expected, Ordering::None, duplicates);
}
