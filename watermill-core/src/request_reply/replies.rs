//! [`Replies`]: the replies to one request.

use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::Stream;
use serde::de::DeserializeOwned;
use tokio::{
    sync::mpsc,
    time::{Instant, Sleep, sleep_until},
};

use super::{RequestError, RequestErrorKind, pending::Ticket, reply};
use crate::Message;

/// The replies to one request, as they come: a stream of values, or of what went wrong where a handler has failed.
///
/// It ends with the request's timeout; with [`Timeout`](RequestErrorKind::Timeout) as its last item if no reply
/// has come at all, with [`Overflow`](RequestErrorKind::Overflow) where replies came faster than they were taken, and with
/// [`Closed`](RequestErrorKind::Closed) when the inbox was closed. Dropped, it waits for nothing any more.
pub struct Replies<R> {
    /// Taken when no more replies are waited for.
    ticket: Option<Ticket>,
    replies: mpsc::Receiver<Message>,
    until: Pin<Box<Sleep>>,
    timeout: Duration,
    has_any: bool,
    value: PhantomData<fn() -> R>,
}

impl<R> Replies<R> {
    pub(super) fn new(
        ticket: Ticket,
        replies: mpsc::Receiver<Message>,
        until: Instant,
        timeout: Duration,
    ) -> Self {
        let until = Box::pin(sleep_until(until));
        Self { ticket: Some(ticket), replies, until, timeout, has_any: false, value: PhantomData }
    }
}

impl<R: DeserializeOwned> Stream for Replies<R> {
    type Item = Result<R, RequestError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        // Looked at before each reply: whoever replies without an end would put it off for ever. What has come is still given.
        if this.ticket.as_ref().is_some_and(Ticket::is_waiting) && this.until.as_mut().poll(cx).is_ready() {
            this.ticket = None;
            this.replies.close();
        }
        if let Some(message) = ready!(this.replies.poll_recv(cx)) {
            this.has_any = true;
            return Poll::Ready(Some(
                reply::succeeded(message).and_then(|message| reply::value_of(&message)),
            ));
        }
        let error = match this.ticket.take() {
            Some(ticket) if ticket.is_closed() => RequestError::new(RequestErrorKind::Closed),
            Some(_) => RequestError::new(RequestErrorKind::Overflow),
            None if this.has_any => return Poll::Ready(None),
            None => RequestError::timeout(this.timeout),
        };
        // It is the last.
        this.has_any = true;
        Poll::Ready(Some(Err(error)))
    }
}

impl<R> fmt::Debug for Replies<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies").field("has_ended", &self.ticket.is_none()).finish_non_exhaustive()
    }
}
