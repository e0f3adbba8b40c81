//! [`Listening`]: a connection that listens to a channel, and what has come on it.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use redis::{
    Client,
    aio::{PubSubSink, PubSubStream},
};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use watermill_core::backend::{Arrivals, Failure, Taken, Trouble};

use super::RedisPubSubSubscriberConfig;
use crate::error::classify;

/// A connection, with a task that takes from it whatever comes, so that the server never waits for us and drops nobody for
/// being slow. What is kept is bounded; what does not fit is dropped and counted.
pub(super) struct Listening {
    heard: Arc<Arrivals<Bytes>>,
    _task: AbortOnDropHandle<()>,
}

impl Listening {
    /// Connects, and listens when this returns.
    pub(super) async fn start(
        client: &Client,
        topic: &str,
        config: &RedisPubSubSubscriberConfig,
    ) -> Result<Self, Failure> {
        let connect = async {
            let (mut sink, stream) = client.get_async_pubsub().await?.split();
            sink.subscribe(topic).await?;
            Ok((sink, stream))
        };
        let late = |_| Failure::because(Trouble::Timeout, "the server does not answer");
        let connected = timeout(config.timeout, connect).await.map_err(late)?;
        let (sink, stream) = connected.map_err(classify)?;
        let heard = Arc::new(Arrivals::new(config.buffer, config.buffer_bytes));
        let listen = listen(sink, stream, heard.clone(), config.clone());
        Ok(Self { heard, _task: AbortOnDropHandle::new(tokio::spawn(listen)) })
    }

    /// Takes up to `room` messages.
    pub(super) fn take(&self, room: usize) -> Taken<Bytes> {
        self.heard.take(room)
    }

    /// Waits until there is something to take.
    pub(super) async fn changed(&self) {
        self.heard.changed().await;
    }
}

/// Until the connection is lost.
async fn listen(
    sink: PubSubSink,
    mut stream: PubSubStream,
    heard: Arc<Arrivals<Bytes>>,
    config: RedisPubSubSubscriberConfig,
) {
    let hear = async {
        while let Some(message) = stream.next().await {
            let sent = message.get_payload_bytes();
            heard.push(Bytes::copy_from_slice(sent), sent.len());
        }
        "the connection was lost".to_owned()
    };
    let why = tokio::select! {
        why = hear => why,
        why = silence(sink, &config) => why,
    };
    heard.end(why);
}

/// Until the server does not answer any more, which nothing else tells of while nothing is published.
async fn silence(mut sink: PubSubSink, config: &RedisPubSubSubscriberConfig) -> String {
    loop {
        sleep(config.ping_interval).await;
        match timeout(config.timeout, sink.ping::<redis::Value>()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return format!("the server could not be asked whether it is there: {error}"),
            Err(_) => return "the server does not answer".to_owned(),
        }
    }
}
