//! [`Listening`]: a connection that listens to a channel, and what has come on it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures::StreamExt as _;
use redis::{
    Client,
    aio::{PubSubSink, PubSubStream},
};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use watermill_core::backend::{Failure, Trouble};

use super::RedisPubSubSubscriberConfig;
use crate::error::classify;

/// A connection, with a task that takes from it whatever comes, so that the server never waits for us and drops nobody for
/// being slow. What is kept is bounded; what does not fit is dropped and counted.
pub(super) struct Listening {
    heard: Arc<Heard>,
    _task: AbortOnDropHandle<()>,
}

/// What has come and was not taken yet.
struct Heard {
    state: Mutex<State>,
    changed: Notify,
    messages_max: usize,
    bytes_max: usize,
}

#[derive(Default)]
struct State {
    messages: VecDeque<Bytes>,
    bytes: usize,
    dropped: u64,
    /// Why nothing comes any more.
    ended: Option<String>,
}

/// What there is to take.
pub(super) enum Taken {
    /// Messages, and how many were dropped since the last time.
    Some {
        messages: Vec<Bytes>,
        dropped: u64,
    },
    Nothing,
    /// The connection is lost, and everything that came on it was taken.
    Ended(String),
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
        let heard = Arc::new(Heard {
            state: Mutex::default(),
            changed: Notify::new(),
            messages_max: config.buffer,
            bytes_max: config.buffer_bytes,
        });
        let listen = listen(sink, stream, heard.clone(), config.clone());
        Ok(Self { heard, _task: AbortOnDropHandle::new(tokio::spawn(listen)) })
    }

    /// Takes up to `room` messages.
    pub(super) fn take(&self, room: usize) -> Taken {
        let mut state = self.heard.lock();
        let count = room.min(state.messages.len());
        let messages: Vec<_> = state.messages.drain(..count).collect();
        state.bytes -= messages.iter().map(Bytes::len).sum::<usize>();
        let dropped = std::mem::take(&mut state.dropped);
        match (messages.is_empty() && dropped == 0, &state.ended) {
            (false, _) => Taken::Some { messages, dropped },
            (true, None) => Taken::Nothing,
            (true, Some(why)) => Taken::Ended(why.clone()),
        }
    }

    /// Waits until there is something to take.
    pub(super) async fn changed(&self) {
        self.heard.changed.notified().await;
    }
}

impl Heard {
    fn push(&self, message: Bytes) {
        let mut state = self.lock();
        let fits = state.messages.len() < self.messages_max
            && (state.messages.is_empty() || state.bytes + message.len() <= self.bytes_max);
        match fits {
            true => {
                state.bytes += message.len();
                state.messages.push_back(message);
            }
            false => state.dropped += 1,
        }
        drop(state);
        self.changed.notify_one();
    }

    fn end(&self, why: String) {
        self.lock().ended = Some(why);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Until the connection is lost.
async fn listen(
    sink: PubSubSink,
    mut stream: PubSubStream,
    heard: Arc<Heard>,
    config: RedisPubSubSubscriberConfig,
) {
    let hear = async {
        while let Some(message) = stream.next().await {
            heard.push(Bytes::copy_from_slice(message.get_payload_bytes()));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(messages_max: usize, bytes_max: usize, sizes: &[usize]) -> (usize, u64) {
        let heard = Heard { state: Mutex::default(), changed: Notify::new(), messages_max, bytes_max };
        sizes.iter().for_each(|size| heard.push(vec![0; *size].into()));
        let state = heard.lock();
        (state.messages.len(), state.dropped)
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        assert_eq!(heard(2, 100, &[1, 1, 1]), (2, 1));
        assert_eq!(heard(9, 100, &[60, 60, 40]), (2, 1));
        assert_eq!(heard(9, 100, &[1_000, 1]), (1, 1), "one is kept however large");
    }
}
