//! The worker: one task that drives the one service of a handler.
//!
//! It waits until the service is ready, takes a delivery from the subscription, and calls the
//! service; so a layer that is not ready (a rate limit, an open breaker) pauses the subscription. The
//! returned future runs on this task, in a [`Lane`](lane::Lane): at concurrency one a message crosses
//! no channel, spawns no task and is not boxed.

mod environment;
mod job;
mod lane;
mod lanes;
mod pipeline;
mod state;

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::OnceLock,
    task::{Context, Poll},
};

use futures::Stream;

pub(super) use self::environment::Environment;
use self::lanes::Lanes;
use super::service::MessageService;
use crate::{
    Subscription,
    error::{BoxError, SubscribeError, SubscribeErrorKind, chain},
};

/// Why a worker ended.
#[derive(Debug)]
pub(super) enum End {
    /// It was asked to.
    Stopped,
    /// The publisher of its outputs, or its subscriber, was closed by whoever owns it: nothing can go on.
    Closed(BoxError),
    /// The subscription is over: another one may have more luck.
    SubscriptionEnded(BoxError),
    /// The service is broken: another one may have more luck.
    ServiceFailed(BoxError),
}

/// How many deliveries are taken before the task lets others run.
const YIELD_AFTER: usize = 64;

/// Runs until intake has stopped and everything that was taken is settled. The service can be driven again,
/// with another subscription, unless it has failed for good.
pub(super) async fn drive<S: MessageService>(
    service: &mut S,
    mut subscription: Subscription,
    env: &Environment,
) -> (Subscription, End) {
    subscription.set_window(env.concurrency.window(env.pipeline));
    // Set by a lane that met an error which no other message can escape.
    let broken = OnceLock::new();
    let mut lanes = Lanes::new(env, &broken);
    let mut stop = pin!(env.stop.cancelled());
    let mut end = None;
    poll_fn(|cx| {
        lanes.register(cx);
        if end.is_none() && stop.as_mut().poll(cx).is_ready() {
            subscription.stop_intake();
            lanes.stop_waiting();
            end = Some(End::Stopped);
        }
        lanes.poll(cx);
        for _ in 0..YIELD_AFTER {
            if end.is_none()
                && let Some(error) = broken.get()
            {
                subscription.stop_intake();
                lanes.give_back(cx);
                end = Some(End::Closed(String::as_str(error).into()));
            }
            let due = lanes.has_call_due();
            let step = if due || (end.is_none() && lanes.has_room()) {
                step(service, &mut subscription, &mut lanes, due, end.is_none(), env, cx)
            } else {
                Poll::Pending
            };
            match step {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(ended)) => {
                    subscription.stop_intake();
                    // A service that is broken is not asked again.
                    lanes.give_back(cx);
                    end = Some(ended);
                }
                Poll::Pending if end.is_some() && lanes.is_quiet() => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
    drop(lanes);
    (subscription, end.unwrap_or(End::Stopped))
}

/// Calls the service once: for a delivery that waits in a lane, or for the next of the subscription.
fn step<S: MessageService>(
    service: &mut S,
    subscription: &mut Subscription,
    lanes: &mut Lanes<'_, S>,
    due: bool,
    intake: bool,
    env: &Environment,
    cx: &mut Context<'_>,
) -> Poll<Result<(), End>> {
    match service.poll_ready(cx) {
        Poll::Pending => return Poll::Pending,
        Poll::Ready(Ok(())) => {}
        Poll::Ready(Err(error)) => return Poll::Ready(Err(End::ServiceFailed(error.into()))),
    }
    if due && lanes.call_due(service, cx) {
        return Poll::Ready(Ok(()));
    }
    if !intake {
        return Poll::Pending;
    }
    match Pin::new(subscription).poll_next(cx) {
        Poll::Pending => Poll::Pending,
        Poll::Ready(Some(Ok(delivery))) => {
            env.counters.received.increment();
            lanes.accept(delivery, service, cx);
            Poll::Ready(Ok(()))
        }
        Poll::Ready(Some(Err(error))) if error.is_retryable() => {
            tracing::warn!(
                handler = env.info.name,
                topic = env.info.subscribe_topic,
                error = chain(&error),
                "the subscription met an error and goes on"
            );
            Poll::Ready(Ok(()))
        }
        Poll::Ready(Some(Err(error))) if error.kind() == SubscribeErrorKind::Closed => {
            Poll::Ready(Err(End::Closed(error.into())))
        }
        Poll::Ready(Some(Err(error))) => Poll::Ready(Err(End::SubscriptionEnded(error.into()))),
        Poll::Ready(None) => {
            let error = SubscribeError::closed(&env.info.subscribe_topic).because("the subscription ended");
            Poll::Ready(Err(End::SubscriptionEnded(error.into())))
        }
    }
}
