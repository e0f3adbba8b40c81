//! The route of a topic: a request in, a delivery, an answer out.

use std::time::{Duration, SystemTime};

use axum::{
    extract::Request,
    response::{IntoResponse as _, Response},
    routing::{MethodRouter, post},
};
use http::{HeaderValue, StatusCode, header::RETRY_AFTER};
use tokio::{sync::oneshot, time::timeout};
use watermill_core::{Message, backend::Source as _, delivery::Outcome};

use crate::{HttpSubscriber, body, marshaler, settle::Settlement, signature, subscriber::Queue};

impl HttpSubscriber {
    /// The route of a topic, for `POST`. Put it wherever it belongs in a router of axum:
    ///
    /// ```
    /// # use watermill_http::{HttpSubscriber, HttpSubscriberConfig};
    /// let webhooks = HttpSubscriber::new(HttpSubscriberConfig::default())?;
    /// let app: axum::Router = axum::Router::new().route("/hooks/orders", webhooks.route("orders.placed"));
    /// # Ok::<(), watermill_core::error::ConfigError>(())
    /// ```
    pub fn route<S: Clone + Send + Sync + 'static>(&self, topic: impl Into<String>) -> MethodRouter<S> {
        let (webhooks, topic) = (self.clone(), topic.into());
        post(move |request: Request| async move { webhooks.receive(&topic, request).await })
    }

    /// Takes a request for a topic and returns its answer: what [`route`](Self::route) does, for topics that are found
    /// in another way.
    ///
    /// | answer | when |
    /// |---|---|
    /// | 200 | the delivery was acked |
    /// | 422 | it was rejected: sending it again is in vain |
    /// | 500 | it was nacked; with a `Retry-After` where the nack has a delay |
    /// | 503 | too many requests are in hand, with a `Retry-After`; or, without one, nobody is subscribed, it took too long, or the subscription has ended |
    /// | 400 | it cannot be read |
    /// | 401 | its signature is missing, is wrong, or is too old |
    /// | 408, 413 | its body came too slowly, or is too large |
    ///
    /// # Cancel safety
    ///
    /// Dropped, as a server does when the caller hangs up, the delivery is lost: its cancellation fires, it is not begun if
    /// it was not yet, and an ack of it that is waited for fails.
    pub async fn receive(&self, topic: &str, request: Request) -> Response {
        let config = &self.0.config;
        // Before the body is read, for bodies are what takes memory.
        let Ok(_permit) = self.0.requests.try_acquire() else { return busy(config.retry_after) };
        let message = match self.read(request).await {
            Ok(message) => message,
            Err((status, why)) => {
                tracing::warn!(topic, %status, why, "a request was refused");
                return status.into_response();
            }
        };
        let Some(waiting) = self.0.push(topic, message) else { return later() };
        match timeout(config.answer_timeout, waiting.settled()).await {
            Ok(Some(Settlement::Handled(outcome))) => answer_of(&outcome),
            Ok(Some(Settlement::NotBegun) | None) => later(),
            Err(_) => {
                tracing::warn!(topic, "a request was not handled in time");
                later()
            }
        }
    }

    async fn read(&self, request: Request) -> Result<Message, (StatusCode, String)> {
        let config = &self.0.config;
        let (head, body) = request.into_parts();
        let body = body::read(config, &head.headers, body).await?;
        if let Some(secrets) = &config.secrets {
            signature::verify(secrets, &head.headers, &body, SystemTime::now(), config.tolerance)
                .map_err(|why| (StatusCode::UNAUTHORIZED, why.to_owned()))?;
        }
        marshaler::read(&head.headers, body, config.secrets.is_some())
            .map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))
    }
}

/// A request that waits for its outcome. Dropped before that, its delivery is lost.
pub(crate) struct Waiting {
    queue: Queue,
    number: u64,
    answer: oneshot::Receiver<Settlement>,
}

impl Waiting {
    pub(crate) fn new(queue: Queue, number: u64, answer: oneshot::Receiver<Settlement>) -> Self {
        Self { queue, number, answer }
    }

    /// What became of it; `None` when the subscription has ended without a word.
    async fn settled(mut self) -> Option<Settlement> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // From now on no outcome is heard, so that none counts.
        self.answer.close();
        let Queue { shared, origin, .. } = &self.queue;
        if !self.answer.is_terminated() {
            origin.revoke(|| shared.lock().ledger.lose(self.number));
            // It has made room; and where intake has stopped, it may be the last one that the task waits for.
            let is_stopped = shared.lock().is_stopped();
            match is_stopped {
                true => shared.stop_intake(),
                false => shared.wake_stream(),
            }
        }
    }
}

fn answer_of(outcome: &Outcome) -> Response {
    match outcome {
        Outcome::Ack => StatusCode::OK.into_response(),
        Outcome::Reject { .. } => StatusCode::UNPROCESSABLE_ENTITY.into_response(),
        Outcome::Nack { delay } if !delay.is_zero() => {
            (StatusCode::INTERNAL_SERVER_ERROR, [(RETRY_AFTER, seconds(*delay))]).into_response()
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Asks to send this message again. Without `Retry-After`, by which a sender may leave all routes of this server alone.
fn later() -> Response {
    StatusCode::SERVICE_UNAVAILABLE.into_response()
}

/// Asks to leave the server alone for a while.
fn busy(retry_after: Duration) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, seconds(retry_after))]).into_response()
}

/// In whole seconds, and rather longer.
fn seconds(time: Duration) -> HeaderValue {
    HeaderValue::from(time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0)))
}
