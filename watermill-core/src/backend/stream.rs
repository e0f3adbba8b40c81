//! [`Deliveries`]: the stream of a subscription.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::Stream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{DeliveryMaker, Next, Source};
use crate::{Delivery, delivery::Origin, error::SubscribeError};

/// How many deliveries in a row a consumer gets before others have their turn. Counted here, because
/// the runtime's own budget is kept with the thread and costs a tenth of a delivery.
const YIELD_AFTER: u32 = 128;

/// It fetches nothing ahead: what it has not returned is in the source. Dropped, it stops the intake;
/// deliveries that are out can be settled until the control goes.
pub(super) struct Deliveries<S: Source> {
    source: Arc<S>,
    deliveries: DeliveryMaker,
    /// How many deliveries were returned since the task had to wait last.
    in_a_row: u32,
    /// Only made when a delay is waited for.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S: Source> Deliveries<S> {
    pub(super) fn new(source: Arc<S>, origin: Origin) -> Self {
        Self { source, deliveries: DeliveryMaker::new(origin), in_a_row: 0, timer: None }
    }

    /// Ready when `until` has come.
    fn poll_timer(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(cx)
    }
}

impl<S: Source> Stream for Deliveries<S> {
    type Item = Result<Delivery, SubscribeError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        // A consumer that is always ready lets other tasks run, above all one that nacks at once.
        if this.in_a_row == YIELD_AFTER {
            this.in_a_row = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            match this.source.next(&mut this.deliveries, cx.waker()) {
                Next::Delivery(delivery) => {
                    this.in_a_row += 1;
                    return Poll::Ready(Some(Ok(delivery)));
                }
                Next::Error(error) => {
                    this.in_a_row += 1;
                    return Poll::Ready(Some(Err(error)));
                }
                Next::Ended => return Poll::Ready(None),
                Next::Sleep(until) => {
                    this.in_a_row = 0;
                    let Some(until) = until else { return Poll::Pending };
                    ready!(this.poll_timer(until, cx));
                }
            }
        }
    }
}

impl<S: Source> Drop for Deliveries<S> {
    fn drop(&mut self) {
        self.source.stop_intake();
    }
}
