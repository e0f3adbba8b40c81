//! How a [`Shared`] is the source of a subscription.

use std::{mem, task::Waker};

use async_trait::async_trait;
use tokio::time::{Instant, timeout};

use super::{Shared, wake};
use crate::{
    Window,
    backend::{DeliveryMaker, Ledger, Next, Offer, Source},
    delivery::{Outcome, Receipt, Token},
    error::{SubscribeError, SubscribeErrorKind},
    subscription::{Health, SubscriptionStatus},
};

const NOT_EXTENDED: &str = "what is in hand was not extended in time and may be with others";

#[async_trait]
impl<L: Ledger> Source for Shared<L> {
    fn next(&self, deliveries: &mut DeliveryMaker, waker: &Waker) -> Next {
        let now = Instant::now();
        let mut state = self.lock();
        if let Some(error) = state.errors.pop_front() {
            return Next::Error(error);
        }
        if state.stopped || state.ended {
            return Next::Ended;
        }
        let wanted = state.ledger.wants_more();
        let offer = if state.is_owned(now) { state.ledger.next(now) } else { Offer::Nothing(None) };
        match offer {
            Offer::Handed(handed) => {
                let work = !wanted && state.ledger.wants_more() && mem::take(&mut state.wake_for.room);
                drop(state);
                if work {
                    self.work.notify_one();
                }
                Next::Delivery(deliveries.make(handed))
            }
            Offer::Nothing(due) => {
                let replaced = match &state.reader {
                    Some(reader) if reader.will_wake(waker) => None,
                    _ => state.reader.replace(waker.clone()),
                };
                drop(state);
                drop(replaced);
                Next::Sleep(due)
            }
        }
    }

    fn settle(&self, token: Token, outcome: Outcome, receipt: Option<Receipt>) {
        let now = Instant::now();
        let mut state = self.lock();
        let wanted = state.ledger.wants_more();
        if !state.ledger.settle(token, outcome, receipt, now) {
            return;
        }
        let over = state.stopped && state.ledger.outstanding() == 0;
        let record = self.record_at(&state).is_some_and(|at| state.wake_for.recording(at));
        let room = !wanted && state.ledger.wants_more() && mem::take(&mut state.wake_for.room);
        let reader = state.reader.take();
        drop(state);
        if over || record || room {
            self.work.notify_one();
        }
        wake(reader);
    }

    fn handled(&self, token: Token) {
        let mut state = self.lock();
        let wanted = state.ledger.wants_more();
        if !state.ledger.handled(token) {
            return;
        }
        let room = !wanted && state.ledger.wants_more() && mem::take(&mut state.wake_for.room);
        let reader = state.reader.take();
        drop(state);
        if room {
            self.work.notify_one();
        }
        wake(reader);
    }

    fn set_window(&self, window: Window) {
        let mut state = self.lock();
        state.ledger.set_window(window);
        let reader = state.reader.take();
        drop(state);
        self.work.notify_one();
        wake(reader);
    }

    fn stop_intake(&self) {
        let mut state = self.lock();
        state.stopped = true;
        let reader = state.reader.take();
        drop(state);
        self.work.notify_one();
        wake(reader);
    }

    /// At once, and not when the task gets to it: what is acked after this does not count.
    fn end(&self) {
        self.lock().ledger.give_back(Instant::now());
        self.closing.cancel();
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        self.stop_intake();
        self.closing.cancel();
        let mut ended = self.ended.subscribe();
        let ended = timeout(self.options.close_timeout, ended.wait_for(Option::is_some)).await;
        let why = match ended.as_ref().map(|ended| ended.as_deref()) {
            Ok(Ok(Some(Err(why)))) => why.clone(),
            Ok(_) => return Ok(()),
            Err(_) => format!("the server did not answer within {:?}", self.options.close_timeout),
        };
        Err(SubscribeError::new(SubscribeErrorKind::Unavailable, &self.topic)
            .because(format!("what was settled last may not be recorded: {why}")))
    }

    fn has_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }

    fn is_owner(&self) -> bool {
        self.lock().is_owned(Instant::now())
    }

    fn status(&self) -> SubscriptionStatus {
        let state = self.lock();
        let oldest = state.oldest_unsettled.or_else(|| state.ledger.oldest());
        let may_be_with_others = state.ledger.outstanding() > 0 && !state.is_owned(Instant::now());
        let health = match (&state.health, &state.impaired_by) {
            // The task may be waiting for a server that is frozen.
            (Health::Healthy, _) if may_be_with_others => {
                Health::Degraded { reason: NOT_EXTENDED.to_owned() }
            }
            (Health::Healthy, Some(reason)) => Health::Degraded { reason: reason.clone() },
            (health, _) => health.clone(),
        };
        SubscriptionStatus::new(&*self.topic, health)
            .active(state.is_active(Instant::now()))
            .group(self.group.as_deref())
            .outstanding(state.ledger.outstanding())
            .lag(state.lag.or_else(|| state.ledger.lag()))
            .oldest_unsettled(oldest.map(|oldest| oldest.elapsed().unwrap_or_default()))
            .held_back_by(state.held_back_by.clone())
    }
}
