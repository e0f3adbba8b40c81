//! [`EventStream`]: a topic for browsers, as server-sent events.

use std::{convert::Infallible, fmt, sync::Arc, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
    routing::{MethodRouter, get},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use http::{
    HeaderName,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, broadcast},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use watermill_core::{
    Message, Subscriber, Subscription,
    error::{ConfigError, SubscribeError, chain},
};

/// What a browser sees first, so that it knows that it is connected.
const HELLO: Bytes = Bytes::from_static(b": connected\n\n");
const HEARTBEAT: Bytes = Bytes::from_static(b":\n\n");
/// What one sees for whom there is no place, and then the end: in so many milliseconds it comes again.
const LATER: Bytes = Bytes::from_static(b"retry: 5000\n\n");

/// Says to proxies such as nginx that events are to be passed on at once.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// How an [`EventStream`] sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventStreamConfig {
    heartbeat: Duration,
    lag_max: usize,
    browsers_max: usize,
}

impl EventStreamConfig {
    /// Sets after how long without an event a comment is sent, so that nobody on the way takes the connection for
    /// dead. Default: 15 s.
    #[must_use]
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.heartbeat = interval;
        self
    }

    /// Sets by how many events a browser may be behind, beside what is in the buffers of its connection. The stream of one
    /// that is further behind ends as soon as it takes anything again: it connects again by itself, and has missed what came
    /// meanwhile. Default: 256.
    #[must_use]
    pub fn lag_max(mut self, events: usize) -> Self {
        self.lag_max = events;
        self
    }

    /// Sets how many browsers are connected at once; more are told to come again in five seconds. One that
    /// takes nothing any more counts until its connection ends. Default: 1,000.
    #[must_use]
    pub fn browsers_max(mut self, browsers: usize) -> Self {
        self.browsers_max = browsers;
        self
    }

    /// # Errors
    ///
    /// With everything that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::check("configure a stream of events")
            .unless(!self.heartbeat.is_zero(), "heartbeat is zero, so there would be nothing else")
            .unless((1..=1 << 20).contains(&self.lag_max), "lag_max is 0, or more than 1,048,576")
            .unless(self.browsers_max > 0, "browsers_max is 0, so nobody could connect")
            .finish()
    }
}

impl Default for EventStreamConfig {
    fn default() -> Self {
        Self { heartbeat: Duration::from_secs(15), lag_max: 256, browsers_max: 1_000 }
    }
}

/// One subscription to a topic, whose messages every browser gets that is connected just then.
///
/// Each message is acked when it has been handed to the browsers, whether there are any: to them it is at most once. In
/// a consumer group that is shared with others, it shares the messages too; give each process a group of its own.
///
/// An event has the message's id, if that has no line break in it, and its payload as the data: as text, or, where that is
/// not UTF-8, in base64 as an event of the type `base64`.
///
/// Clones are the same stream. When the subscription ends, so do the streams of all browsers; dropping the last clone
/// ends it, and [`close`](Self::close) does so gracefully. Close it before you wait for a server to shut down, which waits for
/// its connections; and bound that wait, for a browser that takes nothing is not disconnected by this.
#[derive(Clone)]
pub struct EventStream(Arc<Shared>);

struct Shared {
    config: EventStreamConfig,
    /// Where browsers find the events; the task alone sends.
    events: broadcast::WeakSender<Bytes>,
    browsers: Arc<Semaphore>,
    closing: CancellationToken,
    task: TaskTracker,
}

impl EventStream {
    /// Subscribes to a topic and begins to send.
    ///
    /// # Errors
    ///
    /// As [`Subscriber::subscribe`], and of kind [`Config`](watermill_core::error::SubscribeErrorKind::Config) as
    /// [`EventStreamConfig::validate`].
    ///
    /// # Cancel safety
    ///
    /// A dropped future leaves no subscription behind.
    pub async fn start(
        subscriber: &dyn Subscriber,
        topic: &str,
        config: EventStreamConfig,
    ) -> Result<Self, SubscribeError> {
        config.validate()?;
        let subscription = subscriber.subscribe(topic).await?;
        let events = broadcast::Sender::new(config.lag_max);
        let shared = Shared {
            events: events.downgrade(),
            browsers: Arc::new(Semaphore::new(config.browsers_max.min(Semaphore::MAX_PERMITS))),
            closing: CancellationToken::new(),
            task: TaskTracker::new(),
            config,
        };
        shared.task.spawn(send(subscription, events, shared.closing.clone()));
        shared.task.close();
        Ok(Self(Arc::new(shared)))
    }

    /// The route that browsers connect to, for `GET`.
    pub fn route<S: Clone + Send + Sync + 'static>(&self) -> MethodRouter<S> {
        let events = self.clone();
        get(move || std::future::ready(events.connect()))
    }

    /// The answer to one browser, which gets what comes from now on. Where there is no place for it, or nothing to come, it is
    /// told to come again: a status other than 200 would end its `EventSource` for good.
    pub fn connect(&self) -> Response {
        let permit = self.0.browsers.clone().try_acquire_owned();
        let body = match (permit, self.0.events.upgrade()) {
            (Ok(permit), Some(events)) => {
                Body::from_stream(frames(events.subscribe(), permit, self.0.config.heartbeat))
            }
            _ => Body::from(LATER),
        };
        let headers =
            [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-cache"), (ACCEL_BUFFERING, "no")];
        (headers, body).into_response()
    }

    /// Ends the streams of all browsers, and closes the subscription.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it is closed all the same.
    pub async fn close(&self) {
        self.0.closing.cancel();
        self.0.task.wait().await;
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").field("config", &self.0.config).finish_non_exhaustive()
    }
}

async fn send(mut subscription: Subscription, events: broadcast::Sender<Bytes>, closing: CancellationToken) {
    loop {
        let next = tokio::select! {
            () = closing.cancelled() => break,
            next = subscription.next() => next,
        };
        match next {
            Some(Ok(delivery)) => {
                // Whether anybody listens does not matter.
                let _ = events.send(frame(&delivery));
                delivery.ack();
            }
            Some(Err(error)) => tracing::warn!(error = chain(&error), "events may be late"),
            None => break,
        }
    }
    drop(events);
    if let Err(error) = subscription.close().await {
        tracing::warn!(error = chain(&error), "the subscription of a stream of events did not close");
    }
}

fn frames(
    events: broadcast::Receiver<Bytes>,
    permit: OwnedSemaphorePermit,
    heartbeat: Duration,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let coming = stream::unfold((events, permit), move |(mut events, permit)| async move {
        let frame = match timeout(heartbeat, events.recv()).await {
            Ok(Ok(frame)) => frame,
            // Too far behind, or over: a gap that a browser would not see is worse than to connect again.
            Ok(Err(_)) => return None,
            Err(_) => HEARTBEAT,
        };
        Some((frame, (events, permit)))
    });
    stream::iter([HELLO]).chain(coming).map(Ok)
}

fn frame(message: &Message) -> Bytes {
    let mut frame = String::new();
    let id = message.id().as_str();
    if !id.is_empty() && !id.contains(['\r', '\n', '\0']) {
        frame.push_str(&format!("id: {id}\n"));
    }
    let encoded;
    let data = match str::from_utf8(message.payload()) {
        Ok(text) => text,
        Err(_) => {
            frame.push_str("event: base64\n");
            encoded = BASE64_STANDARD.encode(message.payload());
            &encoded
        }
    };
    // All three ends of lines that a browser knows.
    for line in data.replace("\r\n", "\n").split(['\r', '\n']) {
        frame.push_str(&format!("data: {line}\n"));
    }
    frame.push('\n');
    frame.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_what_a_browser_reads() {
        let frame = |id: &str, payload: &[u8]| frame(&Message::with_id(id, payload.to_vec()));
        assert_eq!(frame("1", b"{}"), "id: 1\ndata: {}\n\n");
        assert_eq!(frame("", b""), "data: \n\n");
        assert_eq!(frame("1\n2", b"a\nb\r\nc\rd\n"), "data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n");
        assert_eq!(frame("1", b"\xff"), "id: 1\nevent: base64\ndata: /w==\n\n");
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        assert_eq!(EventStreamConfig::default().validate(), Ok(()));
        let config = EventStreamConfig::default().heartbeat(Duration::ZERO).lag_max(0).browsers_max(0);
        assert_eq!(config.validate().unwrap_err().problems().count(), 3);
    }
}
