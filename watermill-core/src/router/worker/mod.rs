//! The worker: one task that drives the one service of a handler.
//!
//! It waits until the service is ready, takes a delivery from the subscription, and calls the
//! service; so a layer that is not ready (a rate limit, an open breaker) pauses the subscription. The
//! returned future runs on this task, in a [`Lane`](lane::Lane): at concurrency one a message crosses
//! no channel, spawns no task and is not boxed.

mod attempts;
mod awake;
mod environment;
mod failing;
mod group;
mod in_hand;
mod intake;
mod job;
mod lane;
mod lanes;
mod pipeline;
mod readiness;
mod stage;
mod state;
mod table;
mod timing;
mod trace;
mod trouble;

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::OnceLock,
    task::{Context, Poll},
};

pub(super) use self::{environment::Environment, trouble::Trouble};
use self::{intake::Intake, lanes::Lanes, readiness::Readiness};
use super::service::MessageService;
use crate::{Subscription, error::BoxError, panic::catch_payload};

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

/// Runs until intake has stopped and everything that has begun is settled; what has not begun by then is given
/// back. The service can be driven again, with another subscription, unless it has failed for good.
pub(super) async fn drive<S: MessageService>(
    service: &mut S,
    subscription: Subscription,
    env: &Environment,
) -> (Subscription, End) {
    // Set by a lane that met an error which no other message can escape.
    let broken = OnceLock::new();
    let mut intake = Intake::new(subscription, env);
    let mut lanes = Lanes::new(env, &broken);
    let mut stop = pin!(env.stop.asked());
    let mut end = None;
    poll_fn(|cx| {
        // One net for all that is handled in a poll: where it was a handler that panicked, its lane knows.
        let polled = catch_payload(|| {
            lanes.register(cx);
            if end.is_none() && stop.as_mut().poll(cx).is_ready() {
                end = Some(End::Stopped);
                intake.stop();
                lanes.give_back(cx);
            }
            lanes.poll(cx);
            for _ in 0..YIELD_AFTER {
                // Asked before each message, for a handler that was just polled may be why the next is not to begin.
                if end.is_none()
                    && env.stop.has_news()
                    && let Some(asked) = asked_to_end(env, &broken)
                {
                    end = Some(asked);
                    intake.stop();
                    lanes.give_back(cx);
                }
                let step = match lanes.readiness() {
                    Readiness::Busy => Poll::Pending,
                    Readiness::Room if end.is_some() => Poll::Pending,
                    ready => step(service, &mut intake, &mut lanes, ready, end.is_none(), cx),
                };
                match step {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(ended)) => {
                        intake.stop();
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
        });
        polled.unwrap_or_else(|payload| {
            lanes.panicked(payload);
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    })
    .await;
    drop(lanes);
    (intake.into_subscription(), end.unwrap_or(End::Stopped))
}

#[cold]
fn asked_to_end(env: &Environment, broken: &OnceLock<String>) -> Option<End> {
    if env.stop.is_asked() {
        return Some(End::Stopped);
    }
    broken.get().map(|error| End::Closed(error.as_str().into()))
}

/// Calls the service once: for a message that waits in a lane, or for the next of the subscription.
#[inline(always)]
fn step<S: MessageService>(
    service: &mut S,
    intake: &mut Intake<'_>,
    lanes: &mut Lanes<'_, S>,
    ready: Readiness,
    takes: bool,
    cx: &mut Context<'_>,
) -> Poll<Result<(), End>> {
    match service.poll_ready(cx) {
        Poll::Pending => return Poll::Pending,
        Poll::Ready(Ok(())) => {}
        Poll::Ready(Err(error)) => return Poll::Ready(Err(End::ServiceFailed(error.into()))),
    }
    if ready == Readiness::CallDue && lanes.call_due(service, cx) {
        return Poll::Ready(Ok(()));
    }
    if !takes {
        return Poll::Pending;
    }
    intake.poll_next(cx, |message, settlement, cx| lanes.accept(message, settlement, service, cx))
}
