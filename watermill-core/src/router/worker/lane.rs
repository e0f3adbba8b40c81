//! [`Lane`]: the messages of one ordering scope, one after another.

use std::{
    future::Future,
    panic::resume_unwind,
    pin::Pin,
    sync::OnceLock,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tracing::Span;

use super::{Environment, job::Job, readiness::Readiness, stage::Polled, state::State, trace::Trace};
use crate::{
    Delivery, Message, Outputs, Settlement,
    error::{BoxError, Panicked},
    handling::{Handling, while_handling},
    panic::{Payload, catch},
    router::MessageService,
};

pin_project! {
    /// Handles one message at a time. The handler's future has its place here and is not boxed;
    /// everything else about the lane is its [`State`].
    pub(super) struct Lane<'w, S: MessageService> {
        #[pin]
        call: Call<S::Future>,
        state: State<'w>,
    }
}

pin_project! {
    /// The handler's future; empty between messages, so that its place is used again.
    #[project = CallProject]
    enum Call<F> {
        None,
        Here { #[pin] future: F },
        Task { task: AbortOnDrop },
    }
}

impl<'w, S: MessageService> Lane<'w, S> {
    pub(super) fn new(env: &'w Environment, broken: &'w OnceLock<String>) -> Self {
        Self { call: Call::None, state: State::new(env, broken) }
    }

    pub(super) fn state(&self) -> &State<'w> {
        &self.state
    }

    pub(super) fn state_mut(self: Pin<&mut Self>) -> &mut State<'w> {
        self.project().state
    }

    /// Takes the message to the service, which is ready, or lets it wait its turn; and goes on.
    pub(super) fn accept(
        mut self: Pin<&mut Self>,
        message: Message,
        settlement: Settlement,
        service: &mut S,
        cx: &mut Context<'_>,
    ) {
        if self.state.readiness() == Readiness::Room {
            return self.begin(message, settlement, service, cx);
        }
        self.as_mut().state_mut().waiting.push_back(Delivery { message, settlement });
        self.poll(cx);
    }

    /// Takes the message to the service, which is ready; the lane has room.
    #[inline(always)]
    pub(super) fn begin(
        self: Pin<&mut Self>,
        mut message: Message,
        settlement: Settlement,
        service: &mut S,
        cx: &mut Context<'_>,
    ) {
        if settlement.is_lost() {
            return self.state.lost_unbegun(settlement);
        }
        let job = Job::new(&mut message, settlement, self.state.env);
        self.call(message, job, service, cx);
    }

    /// Hands what is due to the service, which is ready, and goes on; says whether there was something.
    pub(super) fn call_due(mut self: Pin<&mut Self>, service: &mut S, cx: &mut Context<'_>) -> bool {
        if self.state.readiness() != Readiness::CallDue {
            return false;
        }
        if let Some((message, job)) = self.as_mut().state_mut().take_due() {
            self.call(message, job, service, cx);
        }
        true
    }

    /// Gives back what has not begun, and tries nothing again.
    pub(super) fn give_back(self: Pin<&mut Self>) {
        self.state_mut().give_back();
    }

    /// Goes on with what is in hand as far as it can.
    #[inline]
    pub(super) fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) {
        if !self.state.is_idle() {
            self.go_on(cx);
        }
    }

    /// Something has panicked in here. Where it was the handler or the publisher of its outputs, their message has
    /// failed, and the lane goes on when it is polled again; any other panic goes on.
    #[cold]
    pub(super) fn panicked(self: Pin<&mut Self>, payload: Payload) {
        let mut this = self.project();
        let panicked = this.state.take_panicked();
        let error = |payload| Panicked::from_payload(payload).into();
        match panicked {
            Some((Polled::Handler, job)) => {
                this.call.set(Call::None);
                this.state.try_ended(|| false);
                this.state.fail(job, error(payload));
            }
            Some((Polled::Publisher, job)) => this.state.not_accepted(job, error(payload)),
            None => resume_unwind(payload),
        }
    }

    fn go_on(mut self: Pin<&mut Self>, cx: &mut Context<'_>) {
        while !self.state.is_idle() {
            let mut this = self.as_mut().project();
            this.state.poll_pipeline(cx);
            let Some(job) = this.state.called() else {
                if this.state.poll_stage(cx).is_pending() {
                    return;
                }
                continue;
            };
            let entered = job.trace.enter();
            let polled = catch(|| while_handling(|| this.call.as_mut().poll(cx)));
            drop(entered);
            let result = match polled {
                Ok(Poll::Pending) => return,
                Ok(Poll::Ready(result)) => result,
                Err(panicked) => Err(panicked.into()),
            };
            this.state.try_ended(|| has_succeeded(&result));
            // What the future held (permits, connections) goes before the message is settled.
            this.call.set(Call::None);
            match this.state.take_called() {
                Some((job, None)) => {
                    this.state.take_in_hand(job);
                    this.state.handled(result, cx);
                }
                Some((job, Some(earlier))) => this.state.handled_in_vain(job, *earlier),
                None => {}
            }
        }
    }

    /// Calls the service and polls its future at once: most handlers are over by then, and their job was never put
    /// away. A panic is caught further out.
    #[inline(always)]
    fn call(mut self: Pin<&mut Self>, message: Message, job: Job, service: &mut S, cx: &mut Context<'_>) {
        let mut this = self.as_mut().project();
        let state = &mut *this.state;
        state.take_in_hand(job);
        state.try_begins();
        let trace = state.in_hand().map(|job| &job.trace);
        let entered = trace.and_then(Trace::enter);
        let handling = Handling::enter();
        let future = service.call(message);
        this.call.set(if state.env.spawns {
            Call::Task { task: AbortOnDrop::spawn(future, trace.and_then(Trace::span)) }
        } else {
            Call::Here { future }
        });
        let polled = this.call.as_mut().poll(cx);
        drop(handling);
        drop(entered);
        match polled {
            Poll::Ready(result) => {
                this.state.try_ended(|| has_succeeded(&result));
                this.call.set(Call::None);
                this.state.handled(result, cx);
                self.poll(cx);
            }
            Poll::Pending => {
                this.state.calling();
                this.state.poll_pipeline(cx);
            }
        }
    }
}

impl<F, E> Future for Call<F>
where
    F: Future<Output = Result<Outputs, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Outputs, BoxError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            CallProject::Here { future } => future.poll(cx).map_err(Into::into),
            CallProject::Task { task } => Pin::new(task).poll(cx),
            CallProject::None => unreachable!("a lane that calls has a future"),
        }
    }
}

/// A try whose message a layer has dead-lettered has failed like any other.
#[inline(always)]
fn has_succeeded(result: &Result<Outputs, BoxError>) -> bool {
    result.as_ref().is_ok_and(|outputs| !outputs.is_dead_lettered())
}

/// A handler on a task of its own, which ends with the lane.
struct AbortOnDrop(tokio::task::JoinHandle<Result<Outputs, BoxError>>);

impl AbortOnDrop {
    fn spawn<F, E>(future: F, span: Option<Span>) -> Self
    where
        F: Future<Output = Result<Outputs, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Self(tokio::spawn(async move {
            let mut future = std::pin::pin!(future);
            std::future::poll_fn(|cx| {
                let _entered = span.as_ref().map(Span::enter);
                while_handling(|| future.as_mut().poll(cx))
            })
            .await
            .map_err(Into::into)
        }))
    }
}

impl Future for AbortOnDrop {
    type Output = Result<Outputs, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match ready!(Pin::new(&mut self.0).poll(cx)) {
            Ok(result) => result,
            Err(error) if error.is_panic() => Err(Panicked::from_payload(error.into_panic()).into()),
            Err(error) => Err(error.into()),
        })
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
