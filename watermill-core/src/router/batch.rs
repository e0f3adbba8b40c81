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

use super::{ExtractOwned, FromRef, IntoOutputs, MakeService, Outputs, State, outputs::Nothing};
use crate::{
    Message,
    error::{BoxError, Permanent},
};

/// An async function that handles a batch: its first argument is a `Vec` of anything a handler may
/// have as its last argument, its second, if any, is [`State`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a batch handler",
    note = "a batch handler is `async fn(Vec<T>)` or `async fn(Vec<T>, State<S>)`, where `T` is `Message` or implements `Extract`",
    note = "it returns `()`, `Result<(), E>` for all messages alike, or `Vec<Result<O, E>>` with an outcome for each"
)]
pub trait BatchFn<Args, S>: Clone + Send + 'static {
    /// [`Nothing`], [`Messages`](super::types::Messages) or [`Addressed`](super::types::Addressed).
    type Kind;

    /// Reads the messages and calls the function. The result has an outcome for each message.
    fn call(&self, messages: Vec<Message>, state: &S) -> BoxFuture<'static, Vec<Result<Outputs, BoxError>>>;
}

/// What a batch handler may return.
pub trait IntoOutcomes {
    /// [`Nothing`], [`Messages`](super::types::Messages) or [`Addressed`](super::types::Addressed).
    type Kind;

    /// An outcome for each of `len` messages.
    fn into_outcomes(self, len: usize) -> Vec<Result<Outputs, BoxError>>;
}

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

impl<F, Args, S> MakeService<S> for MakeBatch<F, Args, S>
where
    F: BatchFn<Args, S> + Sync,
    S: Clone + Send + Sync + 'static,
    Args: 'static,
{
    type Kind = F::Kind;
    type Service = BatchService;

    fn make_service(&mut self, state: S) -> Option<BatchService> {
        let function = self.function.clone();
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

type Outcomes = Vec<Result<Outputs, BoxError>>;
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
            let outcomes = (running.0.run)(messages).await;
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
        let given_up =
            if matches!(self.role, Role::Leads { .. }) { open.give_up() } else { open.take_closed() };
        drop(open);
        drop(given_up);
    }
}

/// The batch this message was in did not run to its end: its handler panicked, or was dropped by a
/// timeout of another member, perhaps before it began. The message is tried again as its policy says.
#[derive(Debug)]
pub struct BatchInterrupted(());

impl fmt::Display for BatchInterrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("handle the batch: it was interrupted by a panic or a timeout")
    }
}

impl Error for BatchInterrupted {}

/// One error for all messages of a batch.
#[derive(Clone)]
struct SharedError(Arc<BoxError>);

impl fmt::Debug for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("handle the batch")
    }
}

impl Error for SharedError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&**self.0)
    }
}

impl IntoOutcomes for () {
    type Kind = Nothing;

    fn into_outcomes(self, len: usize) -> Outcomes {
        (0..len).map(|_| Ok(Outputs::none())).collect()
    }
}

impl<E: Into<BoxError>> IntoOutcomes for Result<(), E> {
    type Kind = Nothing;

    fn into_outcomes(self, len: usize) -> Outcomes {
        match self {
            Ok(()) => ().into_outcomes(len),
            Err(error) => {
                let error = SharedError(Arc::new(error.into()));
                (0..len).map(|_| Err(error.clone().into())).collect()
            }
        }
    }
}

impl<O: IntoOutputs, E: Into<BoxError>> IntoOutcomes for Vec<Result<O, E>> {
    type Kind = O::Kind;

    fn into_outcomes(self, len: usize) -> Outcomes {
        if self.len() != len {
            let reason = format!("match outcomes to messages: the handler returned {} for {len}", self.len());
            let error = SharedError(Arc::new(Permanent::new(reason).into()));
            return (0..len).map(|_| Err(error.clone().into())).collect();
        }
        self.into_iter().map(IntoOutputs::into_outputs).collect()
    }
}

impl<Func, Fut, S, Via, T> BatchFn<(Via, T), S> for Func
where
    Func: Fn(Vec<T>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output: IntoOutcomes> + Send + 'static,
    T: ExtractOwned<S, Via> + 'static,
{
    type Kind = <Fut::Output as IntoOutcomes>::Kind;

    fn call(&self, messages: Vec<Message>, state: &S) -> BoxFuture<'static, Outcomes> {
        let (arguments, rejections) = extract(messages, state);
        if arguments.is_empty() {
            return Box::pin(async move { merge(rejections, Vec::new()) });
        }
        let len = arguments.len();
        let future = self(arguments);
        Box::pin(async move { merge(rejections, future.await.into_outcomes(len)) })
    }
}

impl<Func, Fut, S, Via, T, P> BatchFn<(Via, T, State<P>), S> for Func
where
    Func: Fn(Vec<T>, State<P>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output: IntoOutcomes> + Send + 'static,
    T: ExtractOwned<S, Via> + 'static,
    P: FromRef<S>,
{
    type Kind = <Fut::Output as IntoOutcomes>::Kind;

    fn call(&self, messages: Vec<Message>, state: &S) -> BoxFuture<'static, Outcomes> {
        let (arguments, rejections) = extract(messages, state);
        if arguments.is_empty() {
            return Box::pin(async move { merge(rejections, Vec::new()) });
        }
        let len = arguments.len();
        let future = self(arguments, State(P::from_ref(state)));
        Box::pin(async move { merge(rejections, future.await.into_outcomes(len)) })
    }
}

/// The arguments of the messages that have one, and for each message the rejection, if it has none.
fn extract<T, S, Via>(messages: Vec<Message>, state: &S) -> (Vec<T>, Vec<Option<BoxError>>)
where
    T: ExtractOwned<S, Via>,
{
    let mut arguments = Vec::with_capacity(messages.len());
    let rejections = messages.into_iter().map(|message| match T::extract_owned(message, state) {
        Ok(argument) => {
            arguments.push(argument);
            None
        }
        Err(rejection) => Some(rejection.into()),
    });
    let rejections = rejections.collect();
    (arguments, rejections)
}

/// Puts the outcomes of what was handled between the rejections.
fn merge(rejections: Vec<Option<BoxError>>, handled: Outcomes) -> Outcomes {
    let mut handled = handled.into_iter();
    let outcome = |rejection: Option<BoxError>| match rejection {
        Some(error) => Err(error),
        None => handled.next().unwrap_or_else(|| Err(BatchInterrupted(()).into())),
    };
    rejections.into_iter().map(outcome).collect()
}
