//! Batch handlers: many messages in one call, an outcome for each.

use std::{
    error::Error,
    fmt,
    future::Future,
    marker::PhantomData,
    num::NonZeroUsize,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{
    sync::oneshot,
    time::{Sleep, sleep},
};
use tower::Service;
use tracing::Instrument;

use super::{BatchFn, MakeService, Outputs, batch_span::BatchSpan, promise, service::RouterState};
use crate::{
    DeliveryInfo, Message,
    error::{BoxError, Nack},
};

/// How many messages a batch has at the most, and how long the first waits for others.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchSize {
    pub(super) max: NonZeroUsize,
    pub(super) linger: Duration,
}

/// A batch function on its way to become a service.
pub struct MakeBatch<F, Args, S> {
    pub(super) function: F,
    pub(super) size: BatchSize,
    pub(super) args: PhantomData<fn() -> (Args, S)>,
}

impl<F, Args, S, R> MakeService<R> for MakeBatch<F, Args, S>
where
    F: BatchFn<Args, S> + Sync,
    S: Clone + Send + Sync + 'static,
    Args: 'static,
    R: RouterState<S>,
{
    type Kind = F::Kind;
    type Service = BatchService;

    fn make_service(&mut self, state: R) -> Option<BatchService> {
        let (function, state) = (self.function.clone(), state.into_state());
        function.promise();
        promise::require(F::required());
        let run = move |messages| function.call(messages, &state);
        Some(BatchService {
            shared: Arc::new(Shared { size: self.size, run: Box::new(run), open: Mutex::default() }),
        })
    }
}

/// Collects the messages of single calls into batches, so that every layer works on single messages
/// and every message has an outcome of its own.
///
/// A batch begins when `max` messages are there or the first has waited for `linger`. While one runs
/// the service is not ready: batches do not overlap, and their messages keep their order.
#[derive(Clone)]
pub struct BatchService {
    shared: Arc<Shared>,
}

pub(super) type Outcomes = Vec<Result<Outputs, BoxError>>;
type Member = oneshot::Sender<Result<Outputs, BoxError>>;
type Members = (Vec<Message>, Vec<Member>);

struct Shared {
    size: BatchSize,
    run: Box<dyn Fn(Vec<Message>) -> BoxFuture<'static, Outcomes> + Send + Sync>,
    open: Mutex<Open>,
}

/// The batch that is being collected.
#[derive(Default)]
struct Open {
    messages: Vec<Message>,
    /// One for each message.
    members: Vec<Member>,
    /// Counts batches: a timer that fires late must not flush the next one.
    number: u64,
    running: bool,
    /// Whoever waits for the running batch to end: the worker, and layers that call again themselves.
    wakers: Vec<Waker>,
}

impl Service<Message> for BatchService {
    type Response = Outputs;
    type Error = BoxError;
    type Future = BatchFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let mut open = self.shared.lock();
        open.poll_free(cx).map(Ok)
    }

    fn call(&mut self, message: Message) -> BatchFuture {
        let (sender, outcome) = oneshot::channel();
        let mut open = self.shared.lock();
        open.messages.push(message);
        open.members.push(sender);
        let number = open.number;
        let role = if open.messages.len() >= self.shared.size.max.get() {
            Role::Leads { linger: None }
        } else if open.messages.len() == 1 {
            Role::Leads { linger: Some(Box::pin(sleep(self.shared.size.linger))) }
        } else {
            Role::Waits
        };
        drop(open);
        BatchFuture { shared: self.shared.clone(), number, role, outcome }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the batch that was collected.
    fn flush(self: &Arc<Self>, open: &mut Open) -> BoxFuture<'static, ()> {
        open.number += 1;
        open.running = true;
        let messages = std::mem::take(&mut open.messages);
        let members = std::mem::take(&mut open.members);
        let running = Running(self.clone());
        Box::pin(async move {
            // Owned by this future: also when it is dropped half way, the next batch can begin.
            let running = running;
            // Another owner has what was lost meanwhile; its member here learns that the batch ran without it.
            let owned = messages.into_iter().zip(members);
            let (messages, members): Members =
                owned.filter(|(message, _)| !message.delivery().is_some_and(DeliveryInfo::is_lost)).unzip();
            if messages.is_empty() {
                return;
            }
            let span = BatchSpan::of(&messages);
            let mut outcomes = (running.0.run)(messages).instrument(span.get()).await;
            span.ended(&mut outcomes);
            for (member, outcome) in members.into_iter().zip(outcomes) {
                // A member that gave up, by a timeout for instance, has nobody listening.
                let _ = member.send(outcome);
            }
        })
    }
}

impl Open {
    /// Ready when no batch runs.
    fn poll_free(&mut self, cx: &Context<'_>) -> Poll<()> {
        if !self.running {
            return Poll::Ready(());
        }
        if !self.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Gives up the batch that is being collected: its members fail, and come again. What they leave
    /// is dropped by the caller, without the lock.
    fn give_up(&mut self) -> Members {
        self.number += 1;
        (std::mem::take(&mut self.messages), std::mem::take(&mut self.members))
    }

    /// Takes out the members that have nobody listening.
    fn take_closed(&mut self) -> Members {
        let mut closed = Members::default();
        let mut at = 0;
        while at < self.members.len() {
            if self.members[at].is_closed() {
                closed.0.push(self.messages.remove(at));
                closed.1.push(self.members.remove(at));
            } else {
                at += 1;
            }
        }
        closed
    }
}

struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        let mut open = self.0.lock();
        open.running = false;
        let wakers = std::mem::take(&mut open.wakers);
        drop(open);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// One message's part in a batch. The batch itself runs inside the future of one of its members.
#[must_use = "futures do nothing unless polled"]
pub struct BatchFuture {
    shared: Arc<Shared>,
    /// The batch it belongs to.
    number: u64,
    role: Role,
    outcome: oneshot::Receiver<Result<Outputs, BoxError>>,
}

enum Role {
    /// The first of a batch begins it when the linger time is over, the one that makes it full at once.
    Leads {
        linger: Option<Pin<Box<Sleep>>>,
    },
    Runs(BoxFuture<'static, ()>),
    Waits,
}

impl Future for BatchFuture {
    type Output = Result<Outputs, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Role::Leads { linger } = &mut this.role
            && linger.as_mut().is_none_or(|linger| linger.as_mut().poll(cx).is_ready())
        {
            let mut open = this.shared.lock();
            this.role = if open.number != this.number {
                Role::Waits
            } else if open.poll_free(cx).is_ready() {
                Role::Runs(Shared::flush(&this.shared, &mut open))
            } else {
                // Layers may call a service that was ready some time ago: batches do not overlap.
                Role::Leads { linger: None }
            };
        }
        if let Role::Runs(batch) = &mut this.role
            && batch.as_mut().poll(cx).is_ready()
        {
            this.role = Role::Waits;
        }
        let outcome = ready!(Pin::new(&mut this.outcome).poll(cx));
        Poll::Ready(outcome.unwrap_or_else(|_| Err(BatchInterrupted(()).into())))
    }
}

impl Drop for BatchFuture {
    /// A member that gives up before its batch has begun is not handled with it. Without the one that
    /// would begin it, the batch ends: its members must not wait for ever.
    fn drop(&mut self) {
        if matches!(self.role, Role::Runs(_)) {
            return;
        }
        let mut open = self.shared.lock();
        if open.number != self.number {
            return;
        }
        self.outcome.close();
        let (messages, members) =
            if matches!(self.role, Role::Leads { .. }) { open.give_up() } else { open.take_closed() };
        drop(open);
        drop(messages);
        for member in members {
            // It was not handled at all: whatever ended the one that would have begun, it is not its fault.
            let _ = member.send(Err(Nack::new(BatchInterrupted(())).into()));
        }
    }
}

/// The batch this message was in did not run to its end: its handler panicked, or was dropped by a
/// timeout of another member. The message is tried again as its policy says, for it may be the one that the
/// batch was interrupted for; if the batch had not begun, it is [nacked](Nack).
#[derive(Debug)]
pub struct BatchInterrupted(pub(super) ());

impl fmt::Display for BatchInterrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("handle the batch: it was interrupted by a panic or a timeout")
    }
}

impl Error for BatchInterrupted {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Verdict, find};

    async fn ignore(_: Vec<Message>) {}

    #[tokio::test(start_paused = true)]
    async fn the_members_of_a_batch_that_never_began_are_given_back() {
        let size = BatchSize { max: NonZeroUsize::new(9).expect("nine"), linger: Duration::from_secs(3600) };
        let mut service =
            MakeBatch { function: ignore, size, args: PhantomData }.make_service(()).expect("it is made");
        let (mut first, mut second) = (service.call(Message::new("1")), service.call(Message::new("2")));
        assert!(futures::poll!(&mut first).is_pending() && futures::poll!(&mut second).is_pending());
        drop(first);
        let error = second.await.unwrap_err();
        assert!(find::<BatchInterrupted>(&*error).is_some());
        assert_eq!(Verdict::of(&*error), Verdict::Nack);
    }
}
