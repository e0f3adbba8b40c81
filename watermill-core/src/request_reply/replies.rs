//! [`Replies`]: the replies to one request.

use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
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
    /// Taken when it has ended.
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

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(ticket) = &self.ticket else { return Poll::Ready(None) };
        let is_closed = ticket.is_closed();
        match self.replies.poll_recv(cx) {
            Poll::Ready(Some(message)) => {
                self.has_any = true;
                Poll::Ready(Some(reply::succeeded(message).and_then(|message| reply::value_of(&message))))
            }
            Poll::Ready(None) => {
                self.ticket = None;
                let kind = if is_closed { RequestErrorKind::Closed } else { RequestErrorKind::Overflow };
                Poll::Ready(Some(Err(RequestError::new(kind))))
            }
            Poll::Pending => {
                if self.until.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.ticket = None;
                let error = (!self.has_any).then(|| Err(RequestError::timeout(self.timeout)));
                Poll::Ready(error)
            }
        }
    }
}

impl<R> fmt::Debug for Replies<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies").field("has_ended", &self.ticket.is_none()).finish_non_exhaustive()
    }
}
