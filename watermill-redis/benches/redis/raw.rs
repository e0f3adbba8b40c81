//! The client by hand: pipelines of a call each, several on their way; and one round trip for the next batch and the acks of the
//! one before.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use redis::{Client, Pipeline, pipe};
use tokio::time::Instant;
use watermill_core::Message;
use watermill_testkit::{unique, workload};

use crate::{CALL, CALLS, GROUP, MESSAGES, full, remove};

type Streams = Vec<(String, Vec<(String, Vec<Bytes>)>)>;

pub(crate) async fn publish(client: &Client) -> Duration {
    let topic = unique("topic");
    let connection = client.get_multiplexed_async_connection().await.expect("it is there");
    let calls: Vec<Vec<Message>> = workload::calls(MESSAGES, CALL).collect();
    let send = |messages: Vec<Message>| {
        let mut connection = connection.clone();
        let pipeline = pipeline(&topic, &messages);
        async move { pipeline.exec_async(&mut connection).await }
    };
    send(vec![workload::message(0)]).await.expect("it is accepted");
    let started = Instant::now();
    let mut sent = stream::iter(calls).map(send).buffered(CALLS);
    while let Some(sent) = sent.next().await {
        sent.expect("it is accepted");
    }
    let took = started.elapsed();
    remove(client, &topic).await;
    took
}

/// What an entry holds is what ours writes, metadata in MessagePack included.
fn pipeline(topic: &str, messages: &[Message]) -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(messages.len());
    for message in messages {
        let metadata = rmp_serde::to_vec(message.metadata()).expect("it is text");
        pipeline.cmd("XADD").arg(topic).arg("*");
        pipeline.arg("_watermill_message_uuid").arg(message.id().as_str());
        pipeline.arg("metadata").arg(metadata).arg("payload").arg(&**message.payload()).ignore();
    }
    pipeline
}

pub(crate) async fn subscribe(client: &Client) -> Duration {
    let topic = full(client).await;
    let mut connection = client.get_multiplexed_async_connection().await.expect("it is there");
    let (mut started, mut received, mut taken) = (None, 0, Vec::new());
    while received < MESSAGES || !taken.is_empty() {
        let mut next = pipe();
        if !taken.is_empty() {
            next.cmd("XACK").arg(&topic).arg(GROUP).arg(&taken).ignore();
        }
        next.cmd("XREADGROUP").arg("GROUP").arg(GROUP).arg("by hand").arg("COUNT").arg(CALL);
        next.arg("STREAMS").arg(&topic).arg(">");
        let (streams,): (Streams,) = next.query_async(&mut connection).await.expect("it answers");
        started.get_or_insert_with(Instant::now);
        taken = streams.into_iter().flat_map(|(_, entries)| entries).map(|(id, _)| id).collect();
        received += taken.len();
    }
    let took = started.expect("there are messages").elapsed();
    remove(client, &topic).await;
    took
}
