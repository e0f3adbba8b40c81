//! [`OnItsWay`]: one call's messages, from the hand-over to the last word on each.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use google_cloud_pubsub::{error::PublishError, publisher::PublishFuture};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::task::task_tracker::TaskTrackerToken;
use watermill_core::backend;

use super::keys::Call;

/// The room that a call's messages take, until the last word on them.
pub(crate) struct Permits {
    _messages: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
    /// The publisher waits for it when it closes.
    _call: backend::Call,
}

/// Messages of a call that were not accepted, by their positions, and why the first was not.
pub(crate) struct NotAccepted {
    pub(crate) positions: Vec<usize>,
    pub(crate) why: PublishError,
}

/// What is to be heard of the messages of one call, in their order. Dropped before, it goes on by itself, for
/// so do its messages: they keep their room, and their keys stay taken.
pub(crate) struct OnItsWay(Option<Waiting>);

struct Waiting {
    /// `None` for what was held back.
    messages: Vec<Option<(Option<Box<str>>, PublishFuture)>>,
    at: usize,
    positions: Vec<usize>,
    why: Option<PublishError>,
    call: Call,
    _permits: Permits,
    _token: TaskTrackerToken,
}

impl Permits {
    /// Waits for room, behind those that came before. More than there is in all takes all of it.
    pub(crate) async fn acquire(
        messages: (&Arc<Semaphore>, usize),
        bytes: (&Arc<Semaphore>, usize),
        wanted: (usize, usize),
        call: backend::Call,
    ) -> Option<Self> {
        let many = |wanted: usize, max: usize| u32::try_from(wanted.min(max)).unwrap_or(u32::MAX);
        let (messages, messages_max) = messages;
        let (bytes, bytes_max) = bytes;
        let _messages = messages.clone().acquire_many_owned(many(wanted.0, messages_max)).await.ok()?;
        let _bytes = bytes.clone().acquire_many_owned(many(wanted.1, bytes_max)).await.ok()?;
        Some(Self { _messages, _bytes, _call: call })
    }
}

impl OnItsWay {
    pub(super) fn new(
        messages: Vec<Option<(Option<Box<str>>, PublishFuture)>>,
        call: Call,
        permits: Permits,
        token: TaskTrackerToken,
    ) -> Self {
        let (positions, why) = (Vec::new(), None);
        Self(Some(Waiting { messages, at: 0, positions, why, call, _permits: permits, _token: token }))
    }
}

impl Waiting {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(message) = self.messages.get_mut(self.at) {
            let (key, error) = match message {
                Some((key, future)) => match ready!(Pin::new(future).poll(cx)) {
                    Ok(_) => {
                        self.at += 1;
                        continue;
                    }
                    Err(error) => (key.take(), error),
                },
                None => (None, PublishError::OrderingKeyPaused),
            };
            if let Some(key) = key {
                self.call.failed(&key);
            }
            self.positions.push(self.at);
            // What is only held back says nothing about why.
            if self.why.as_ref().is_none_or(|why| matches!(why, PublishError::OrderingKeyPaused)) {
                self.why = Some(error);
            }
            self.at += 1;
        }
        Poll::Ready(())
    }
}

impl Future for OnItsWay {
    type Output = Result<(), NotAccepted>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(waiting) = &mut self.0 {
            ready!(waiting.poll(cx));
        }
        let Some(mut ended) = self.0.take() else { return Poll::Ready(Ok(())) };
        let positions = std::mem::take(&mut ended.positions);
        Poll::Ready(match ended.why.take() {
            Some(why) => Err(NotAccepted { positions, why }),
            None => Ok(()),
        })
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        let (Some(mut waiting), Ok(runtime)) = (self.0.take(), Handle::try_current()) else { return };
        runtime.spawn(async move { std::future::poll_fn(|cx| waiting.poll(cx)).await });
    }
}
