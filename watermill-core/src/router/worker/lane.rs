//! [`Lane`]: the messages of one ordering scope, one after another.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

use super::{
    Environment,
    state::{Job, Stage, State},
};
use crate::{
    Delivery, Message, Outputs,
    error::{BoxError, Panicked},
    handling::while_handling,
    panic::catch,
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
    pub(super) fn new(env: &'w Environment) -> Self {
        Self { call: Call::None, state: State::new(env) }
    }

    pub(super) fn state(&self) -> &State<'w> {
        &self.state
    }

    /// Hands the delivery to the service, which is ready, or lets it wait its turn.
    pub(super) fn accept(self: Pin<&mut Self>, delivery: Delivery, service: &mut S) {
        if self.state.is_free() && self.state.waiting() == 0 {
            let (message, job) = self.state.begin(delivery);
            self.call(message, job, service);
        } else {
            self.project().state.wait_turn(delivery);
        }
    }

    /// Hands what is due to the service, which is ready.
    pub(super) fn call_due(mut self: Pin<&mut Self>, service: &mut S) {
        if let Some((message, job)) = self.as_mut().project().state.take_due() {
            self.call(message, job, service);
        }
    }

    /// Waits for no retry any more: what would have been tried again is nacked.
    pub(super) fn hurry(self: Pin<&mut Self>) {
        self.project().state.hurry();
    }

    /// Goes on with what is in hand as far as it can.
    pub(super) fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) {
        while !self.state.is_idle() {
            let mut this = self.as_mut().project();
            this.state.poll_pipeline(cx);
            if !this.state.is_calling() {
                if this.state.poll_stage(cx).is_pending() {
                    return;
                }
                continue;
            }
            match poll_handler(this.call.as_mut(), cx) {
                Poll::Pending => return,
                Poll::Ready(result) => {
                    // What the future held (permits, connections) goes before the message is settled.
                    this.call.set(Call::None);
                    this.state.handled(result, cx);
                }
            }
        }
    }

    fn call(self: Pin<&mut Self>, message: Message, job: Job, service: &mut S) {
        let mut this = self.project();
        match catch(|| while_handling(|| service.call(message))) {
            Ok(future) => {
                let spawns = this.state.env().concurrency.spawns();
                this.call.set(if spawns {
                    Call::Task { task: AbortOnDrop::spawn(future) }
                } else {
                    Call::Here { future }
                });
                this.state.set_stage(Stage::Calling(job));
            }
            Err(panicked) => this.state.fail(job, panicked.into()),
        }
    }
}

fn poll_handler<F, E>(call: Pin<&mut Call<F>>, cx: &mut Context<'_>) -> Poll<Result<Outputs, BoxError>>
where
    F: Future<Output = Result<Outputs, E>>,
    E: Into<BoxError>,
{
    match call.project() {
        CallProject::Here { future } => match catch(|| while_handling(|| future.poll(cx))) {
            Ok(poll) => poll.map_err(Into::into),
            Err(panicked) => Poll::Ready(Err(panicked.into())),
        },
        CallProject::Task { task } => Pin::new(task).poll(cx),
        CallProject::None => unreachable!("a lane that calls has a future"),
    }
}

/// A handler on a task of its own, which ends with the lane.
struct AbortOnDrop(tokio::task::JoinHandle<Result<Outputs, BoxError>>);

impl AbortOnDrop {
    fn spawn<F, E>(future: F) -> Self
    where
        F: Future<Output = Result<Outputs, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Self(tokio::spawn(async move {
            let mut future = std::pin::pin!(future);
            std::future::poll_fn(|cx| while_handling(|| future.as_mut().poll(cx))).await.map_err(Into::into)
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
