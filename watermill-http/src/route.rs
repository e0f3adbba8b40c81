//! The route of a topic: a request in, a delivery, an answer out.

use std::time::{Duration, SystemTime};

use axum::{
    extract::Request,
    response::{IntoResponse as _, Response},
    routing::{MethodRouter, post},
};
use http::{HeaderValue, StatusCode, header::RETRY_AFTER};
use tokio::{
    sync::{SemaphorePermit, oneshot},
    time::timeout,
};
use watermill_core::{Message, backend::Source as _, delivery::Outcome};

use crate::{
    HttpSubscriber, body, marshaler,
    settle::Settlement,
    signature::Claim,
    subscriber::{Inner, Queue},
};

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
        let (_permit, message) = match self.0.take_in(request).await {
            Ok(taken) => taken,
            Err(refusal) => return self.0.refuse(topic, refusal),
        };
        let Some(waiting) = self.0.push(topic, message) else { return later() };
        match timeout(self.0.config.answer_timeout, waiting.settled()).await {
            Ok(Some(Settlement::Handled(outcome))) => answer_of(&outcome),
            Ok(Some(Settlement::NotBegun) | None) => later(),
            Err(_) => {
                tracing::warn!(topic, "a request was not handled in time");
                later()
            }
        }
    }
}

/// Why a request does not become a delivery.
enum Refusal {
    TooMany,
    Unsigned(&'static str),
    Unreadable(StatusCode, String),
}

impl Inner {
    /// The message of a request, and the permit that it holds while it is in hand.
    async fn take_in(&self, request: Request) -> Result<(SemaphorePermit<'_>, Message), Refusal> {
        let config = &self.config;
        let (head, body) = request.into_parts();
        // Before there is a permit, so that whoever sends without a signature takes none from those who have one.
        let claim = match &config.secrets {
            Some(secrets) => Some((Claim::of(&head.headers, SystemTime::now(), config.tolerance)?, secrets)),
            None => None,
        };
        // Before the body is read, for bodies are what takes memory.
        let permit = self.requests.try_acquire().map_err(|_| Refusal::TooMany)?;
        let body = body::read(config, &head.headers, body).await?;
        if let Some((claim, secrets)) = claim {
            claim.verify(secrets, &body)?;
        }
        match marshaler::read(&head.headers, body, config.secrets.is_some()) {
            Ok(message) => Ok((permit, message)),
            Err(error) => Err(Refusal::Unreadable(StatusCode::BAD_REQUEST, error.to_string())),
        }
    }

    fn refuse(&self, topic: &str, refusal: Refusal) -> Response {
        match refusal {
            Refusal::TooMany => {
                if let Some(requests) = self.turned_away.once_more() {
                    let in_hand = self.config.requests_max;
                    tracing::warn!(
                        topic,
                        requests,
                        in_hand,
                        "requests were turned away: too many are in hand"
                    );
                }
                let retry_after = [(RETRY_AFTER, seconds(self.config.retry_after))];
                (StatusCode::SERVICE_UNAVAILABLE, retry_after).into_response()
            }
            Refusal::Unsigned(why) => {
                if let Some(requests) = self.unsigned.once_more() {
                    tracing::warn!(topic, requests, why, "requests without a good signature were refused");
                }
                StatusCode::UNAUTHORIZED.into_response()
            }
            Refusal::Unreadable(status, why) => {
                tracing::warn!(topic, %status, why, "a request was refused");
                status.into_response()
            }
        }
    }
}

impl From<&'static str> for Refusal {
    /// What is wrong with a signature.
    fn from(why: &'static str) -> Self {
        Self::Unsigned(why)
    }
}

impl From<(StatusCode, String)> for Refusal {
    /// What is wrong with a body.
    fn from((status, why): (StatusCode, String)) -> Self {
        Self::Unreadable(status, why)
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

/// In whole seconds, and rather longer.
fn seconds(time: Duration) -> HeaderValue {
    HeaderValue::from(time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0)))
}
