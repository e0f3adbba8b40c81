//! [`Responder`]: makes replies of what a handler returns.

use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use pin_project_lite::pin_project;
use serde::Serialize;
use tower::{Layer, Service};

use crate::{
    Message, Metadata, Outputs,
    dead_letter::{REASON_BYTES_MAX, reason},
    error::{BoxError, Verdict, find},
    metadata_keys,
    router::{HandlerError, Promise},
};

/// A layer that makes replies of what a handler returns: put it around any handler whose destination is the topic of the
/// replies, and it answers requests.
///
/// - Each message that the handler returns for its own topic becomes a reply. A handler with nothing to say returns
///   `Json(`[`NoResult`](super::NoResult)` {})`: where nothing is returned, nobody is answered.
/// - An error becomes a reply too, and the request is acked: who asked decides whether to ask again. Its text is sent as one line
///   of at most 1,024 bytes, which any backend carries. Put a [`Retry`](crate::middleware::Retry) inside of this layer to try
///   here before. An error that says [`Nack`](crate::error::Nack) of itself is passed on: the request comes again.
/// - A panic is passed on to the handler's policy, unless a [`Recoverer`](crate::middleware::Recoverer) inside of this layer makes an
///   error of it.
/// - What is no request, as it has no operation's id, is handled like any message, and what is returned for the topic of the
///   replies is dropped: nobody waits for it. An error of it is the policy's.
///
/// A router refuses to run a handler with this layer that has no destination.
#[derive(Clone, Default)]
pub struct Responder {
    shared: Arc<Shared>,
}

#[derive(Clone, Default)]
struct Shared {
    /// What a topic begins with that a request may name.
    inboxes: Option<String>,
    errors: Vec<Arc<Details>>,
}

/// The JSON of an error, if it is of the type.
type Details = dyn Fn(&(dyn Error + 'static)) -> Option<String> + Send + Sync;

impl Responder {
    /// Replies go to the handler's destination.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replies go to the topic that a request [names](super::ReplyInboxConfig::names_topic), if that begins with
    /// `prefix`: others could have this service write anywhere. The topic is one of the handler's publisher.
    #[must_use]
    pub fn to_inboxes(mut self, prefix: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.shared).inboxes = Some(prefix.into());
        self
    }

    /// Sends errors of this type as they are, beside their text, wherever they are among an error's sources; the other side
    /// reads them with [`HandlerFailed::details`](super::HandlerFailed::details). Of an error that is of none of the types
    /// given, or whose JSON is longer than 1,024 bytes, only the text is sent.
    #[must_use]
    pub fn send_errors<E: Error + Serialize + 'static>(mut self) -> Self {
        let details = |error: &(dyn Error + 'static)| serde_json::to_string(find::<E>(error)?).ok();
        Arc::make_mut(&mut self.shared).errors.push(Arc::new(details));
        self
    }
}

impl<S> Layer<S> for Responder {
    type Service = ResponderService<S>;

    fn layer(&self, inner: S) -> ResponderService<S> {
        Promise::returns();
        ResponderService { inner, shared: self.shared.clone() }
    }
}

/// The service that [`Responder`] makes.
#[derive(Clone)]
pub struct ResponderService<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Service<Message> for ResponderService<S>
where
    S: Service<Message, Response = Outputs, Error: HandlerError>,
{
    type Response = Outputs;
    type Error = BoxError;
    type Future = ResponderFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, message: Message) -> Self::Future {
        let request = Asking::of(&message, &self.shared);
        ResponderFuture { inner: self.inner.call(message), request, shared: self.shared.clone() }
    }
}

pin_project! {
    /// A handler's future whose outcome becomes replies.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponderFuture<F> {
        #[pin]
        inner: F,
        request: Option<Asking>,
        shared: Arc<Shared>,
    }
}

impl<F, E> Future for ResponderFuture<F>
where
    F: Future<Output = Result<Outputs, E>>,
    E: HandlerError,
{
    type Output = Result<Outputs, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let outcome = ready!(this.inner.poll(cx)).map_err(Into::into);
        Poll::Ready(match (this.request.take(), outcome) {
            (Some(request), Ok(outputs)) => Ok(request.replies(outputs)),
            (Some(request), Err(error)) => request.failed(error, this.shared),
            (None, Ok(mut outputs)) => {
                outputs.take_messages();
                Ok(outputs)
            }
            (None, Err(error)) => Err(error),
        })
    }
}

/// Who asks, and where the reply goes.
struct Asking {
    /// The whole request: what of it is needed is read when it is known to be.
    request: Message,
    is_to_inbox: bool,
}

impl Asking {
    fn of(message: &Message, shared: &Shared) -> Option<Self> {
        let metadata = message.metadata();
        let operation = metadata.get(metadata_keys::REQUEST_REPLY_OPERATION_ID)?;
        if operation.is_empty() {
            return None;
        }
        let is_to_inbox = match (metadata.get(metadata_keys::REQUEST_REPLY_TOPIC), &shared.inboxes) {
            (Some(topic), Some(prefix)) if !topic.is_empty() && topic.starts_with(prefix) => true,
            (Some(topic), Some(_)) => {
                tracing::warn!(topic, "a request names a topic that replies may not go to");
                false
            }
            _ => false,
        };
        Some(Self { request: message.clone().without_context(), is_to_inbox })
    }

    fn replies(self, mut outputs: Outputs) -> Outputs {
        for reply in outputs.take_messages() {
            self.push(&mut outputs, reply, &[(metadata_keys::REQUEST_REPLY_HAS_ERROR, "0")]);
        }
        outputs
    }

    fn failed(self, error: BoxError, shared: &Shared) -> Result<Outputs, BoxError> {
        if matches!(Verdict::of(&*error), Verdict::Nack | Verdict::Ignore) {
            return Err(error);
        }
        // A reply that cannot be published for its text would have the request handled again and again.
        let text = reason(&*error);
        tracing::warn!(message_id = %self.request.id(), error = text, "a request has failed");
        let details = shared.errors.iter().find_map(|details| details(&*error)).filter(|details| {
            let fits = details.len() <= REASON_BYTES_MAX;
            if !fits {
                tracing::warn!(bytes = details.len(), "an error is too long to be sent but for its text");
            }
            fits
        });
        let mut entries = vec![
            (metadata_keys::REQUEST_REPLY_HAS_ERROR, "1"),
            (metadata_keys::REQUEST_REPLY_ERROR, text.as_str()),
        ];
        entries.extend(details.as_deref().map(|it| (metadata_keys::REQUEST_REPLY_ERROR_DETAILS, it)));
        let mut outputs = Outputs::none();
        // Go reads the payload of a reply in any case, and takes this for a value of any type.
        self.push(&mut outputs, Message::new(Bytes::from_static(b"null")), &entries);
        Ok(outputs)
    }

    /// Adds a reply.
    fn push(&self, outputs: &mut Outputs, mut reply: Message, entries: &[(&str, &str)]) {
        let request = self.request.metadata();
        let operation = request.get(metadata_keys::REQUEST_REPLY_OPERATION_ID).unwrap_or_default();
        let metadata = Metadata::packed(
            reply
                .metadata()
                .iter()
                .chain([(metadata_keys::REQUEST_REPLY_OPERATION_ID, operation)])
                .chain(entries.iter().copied()),
        );
        *reply.metadata_mut() = metadata;
        match request.get(metadata_keys::REQUEST_REPLY_TOPIC).filter(|_| self.is_to_inbox) {
            Some(topic) => outputs.push_to(topic, reply),
            None => outputs.push(reply),
        }
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder")
            .field("inboxes", &self.shared.inboxes)
            .field("errors", &self.shared.errors.len())
            .finish()
    }
}

impl<S> fmt::Debug for ResponderService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponderService").finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for ResponderFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponderFuture").finish_non_exhaustive()
    }
}
