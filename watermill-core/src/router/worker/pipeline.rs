//! [`Pipeline`]: outputs on their way, and the deliveries they belong to, in order.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{Stream, future::BoxFuture, stream::FuturesOrdered};
use tracing::Span;

use super::job::Job;
use crate::{
    delivery::Outcome,
    error::{BoxError, PublishError},
    handling::while_handling,
    panic::catch,
};

/// Publish calls that were begun one after another, and the outcomes that must wait behind them.
///
/// Acks follow in the order of the deliveries: the backend's watermark never passes a delivery whose
/// outputs are still on their way.
pub(super) struct Pipeline<'w> {
    /// How many may be here while the next message is handled.
    limit: usize,
    jobs: VecDeque<Job>,
    /// One for each job, in the same order.
    entries: FuturesOrdered<Entry<'w>>,
    /// Whether the subscription is yet to hear that the newest job was handled: it hears so when there is room
    /// for another.
    announces: bool,
}

/// What became of a job when its turn came: its outcome, or why its outputs were not accepted.
pub(super) type Turn = Result<Outcome, BoxError>;

enum Entry<'w> {
    Publishing(BoxFuture<'w, Result<(), PublishError>>, Option<Span>),
    Decided(Option<Turn>),
}

impl<'w> Pipeline<'w> {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, jobs: VecDeque::new(), entries: FuturesOrdered::new(), announces: false }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether another message may be handled meanwhile.
    pub(super) fn has_room(&self) -> bool {
        self.jobs.len() <= self.limit
    }

    /// Adds a call that was polled already and is not finished.
    pub(super) fn push_call(&mut self, job: Job, call: BoxFuture<'w, Result<(), PublishError>>) {
        self.entries.push_back(Entry::Publishing(call, job.trace.span()));
        self.push(job, true);
    }

    /// Adds what is known already and waits for its turn.
    #[inline(never)]
    pub(super) fn push_outcome(&mut self, job: Job, outcome: Outcome) {
        self.entries.push_back(Entry::Decided(Some(Ok(outcome))));
        self.push(job, true);
    }

    /// The same for a job behind which nothing begins.
    pub(super) fn push_last(&mut self, job: Job, turn: Turn) {
        self.entries.push_back(Entry::Decided(Some(turn)));
        self.push(job, false);
    }

    /// The next job whose turn has come; `None` when there are no jobs.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<(Job, Turn)>> {
        if self.jobs.is_empty() {
            return Poll::Ready(None);
        }
        let turn = ready!(Pin::new(&mut self.entries).poll_next(cx));
        let job = self.jobs.pop_front();
        self.announce();
        Poll::Ready(job.zip(turn))
    }

    /// Gives up on what is on its way: the jobs, in order.
    pub(super) fn abandon(&mut self) -> Vec<Job> {
        self.entries = FuturesOrdered::new();
        self.announces = false;
        std::mem::take(&mut self.jobs).into()
    }

    fn push(&mut self, job: Job, announces: bool) {
        self.jobs.push_back(job);
        self.announces = announces;
        self.announce();
    }

    fn announce(&mut self) {
        if self.announces
            && self.has_room()
            && let Some(newest) = self.jobs.back()
        {
            newest.settlement.handled();
            self.announces = false;
        }
    }
}

/// Polls a publish call; a panic of the publisher is a failure like any other.
pub(super) fn poll_call<E: Into<BoxError>>(
    call: &mut BoxFuture<'_, Result<(), E>>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), BoxError>> {
    // Still part of handling the message: a publisher that waits for acks must not wait for this one.
    match catch(|| while_handling(|| call.as_mut().poll(cx))) {
        Ok(poll) => poll.map_err(Into::into),
        Err(panicked) => Poll::Ready(Err(panicked.into())),
    }
}

impl Future for Entry<'_> {
    type Output = Turn;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Turn> {
        Poll::Ready(match &mut *self {
            Self::Publishing(call, span) => {
                let _entered = span.as_ref().map(Span::enter);
                ready!(poll_call(call, cx)).map(|()| Outcome::Ack)
            }
            Self::Decided(turn) => turn.take().expect("polled again after it was ready"),
        })
    }
}
