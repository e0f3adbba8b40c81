//! [`Intake`]: takes deliveries from a subscription, through all its troubles.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::Stream;
use tokio::time::{Instant, Sleep, sleep};

use super::{End, Environment};
use crate::{
    Backoff, Delivery, Message, Settlement, Subscription,
    error::{SubscribeError, SubscribeErrorKind, chain},
};

/// The stream of a subscription. What it reports as errors is waited out, longer with each in a row; it is over
/// when it says so.
pub(super) struct Intake<'w> {
    subscription: Subscription,
    env: &'w Environment,
    backoff: Backoff,
    condition: Condition,
    /// Errors since the last delivery.
    errors: u32,
    /// Of those, the ones that no line of the log has told of.
    untold: u32,
    told: Option<Instant>,
    last_error: Option<String>,
}

enum Condition {
    Well,
    /// After an error: the stream is left alone until then.
    Waiting(Pin<Box<Sleep>>),
    /// It is asked again. Without another error until then, all is well even if there is nothing to deliver.
    Probing(Pin<Box<Sleep>>),
}

/// The same trouble is told of once in this time.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// A stream without messages is well again after this time without an error.
const WELL_AFTER: Duration = Duration::from_secs(60);

impl<'w> Intake<'w> {
    pub(super) fn new(subscription: Subscription, env: &'w Environment) -> Self {
        subscription.set_window(env.concurrency.window(env.ordering, env.pipeline));
        Self {
            subscription,
            env,
            backoff: Backoff::default(),
            condition: Condition::Well,
            errors: 0,
            untold: 0,
            told: None,
            last_error: None,
        }
    }

    /// Hands the next delivery to `accept`, or says that there will be none.
    #[inline(always)]
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        accept: impl FnOnce(Message, Settlement, &mut Context<'_>),
    ) -> Poll<Result<(), End>> {
        if !matches!(self.condition, Condition::Well) && self.poll_condition(cx).is_pending() {
            return Poll::Pending;
        }
        match Pin::new(&mut self.subscription).poll_next(cx) {
            Poll::Ready(Some(Ok(Delivery { message, settlement }))) => {
                if !matches!(self.condition, Condition::Well) {
                    self.recover();
                }
                self.env.counters.received.increment();
                accept(message, settlement, cx);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(self.suffer(error)),
            Poll::Ready(None) => Poll::Ready(Err(self.ended())),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Ready when the stream may be asked.
    #[cold]
    fn poll_condition(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Condition::Waiting(until) = &mut self.condition {
            ready!(until.as_mut().poll(cx));
            self.condition = Condition::Probing(Box::pin(sleep(WELL_AFTER)));
        }
        if let Condition::Probing(until) = &mut self.condition
            && until.as_mut().poll(cx).is_ready()
        {
            self.recover();
        }
        Poll::Ready(())
    }

    /// Takes no more; what has been fetched is free for others.
    pub(super) fn stop(&self) {
        self.subscription.stop_intake();
    }

    pub(super) fn into_subscription(self) -> Subscription {
        self.env.trouble.clear();
        self.subscription
    }

    /// Waits before the stream is asked again, unless it says that it is over.
    #[cold]
    fn suffer(&mut self, error: SubscribeError) -> Result<(), End> {
        if error.kind() == SubscribeErrorKind::Closed {
            return Err(End::Closed(error.into()));
        }
        if error.kind() == SubscribeErrorKind::Missed {
            self.go_on_after(&error);
            return Ok(());
        }
        let delay = self.backoff.delay(self.errors);
        self.condition = Condition::Waiting(Box::pin(sleep(delay)));
        self.errors = self.errors.saturating_add(1);
        self.untold += 1;
        let error = chain(&error);
        self.env.trouble.set(error.clone());
        let now = Instant::now();
        if self.told.is_none_or(|told| now.duration_since(told) >= TOLD_EVERY) {
            tracing::warn!(
                handler = self.env.info.name,
                topic = self.env.info.subscribe_topic,
                errors = self.untold,
                ?delay,
                error,
                "the subscription met an error and is asked again"
            );
            self.told = Some(now);
            self.untold = 0;
        }
        self.last_error = Some(error);
        Ok(())
    }

    /// Messages may have been missed: nothing is wrong any more, and there is nothing to wait for.
    #[cold]
    fn go_on_after(&mut self, error: &SubscribeError) {
        if !matches!(self.condition, Condition::Well) {
            self.recover();
        }
        tracing::warn!(
            handler = self.env.info.name,
            topic = self.env.info.subscribe_topic,
            error = chain(error),
            "the handler may have missed messages"
        );
    }

    #[cold]
    fn recover(&mut self) {
        tracing::info!(
            handler = self.env.info.name,
            topic = self.env.info.subscribe_topic,
            errors = self.errors,
            "the subscription is well again"
        );
        self.condition = Condition::Well;
        self.errors = 0;
        self.last_error = None;
        self.env.trouble.clear();
    }

    #[cold]
    fn ended(&mut self) -> End {
        let error = SubscribeError::closed(&self.env.info.subscribe_topic);
        let error = match self.last_error.take() {
            None => error.because("the subscription ended"),
            Some(last) => error.because(format!("the subscription ended after an error: {last}")),
        };
        End::SubscriptionEnded(error.into())
    }
}
