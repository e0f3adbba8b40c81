//! What becomes of deliveries: outcomes that are recorded at once, or held until they are to be.

use watermill_core::{
    delivery::{Outcome, Receipt, Token},
    error::SettleError,
};

use super::Script;

/// An outcome that is held.
#[derive(Debug)]
pub(in crate::scripted) struct Unrecorded {
    pub(super) subscription: u64,
    token: Token,
    outcome: Outcome,
    receipt: Option<Receipt>,
}

impl Script {
    pub(in crate::scripted) fn settle(
        &mut self,
        subscription: u64,
        token: Token,
        outcome: Outcome,
        receipt: Option<Receipt>,
    ) {
        match &mut self.held_records {
            Some(held) => held.push_back(Unrecorded { subscription, token, outcome, receipt }),
            None => self.record_one(Unrecorded { subscription, token, outcome, receipt }),
        }
    }

    /// Records the oldest outcomes that are held.
    pub(in crate::scripted) fn record(&mut self, count: usize) -> usize {
        let Some(held) = &mut self.held_records else { return 0 };
        let oldest: Vec<_> = held.drain(..count.min(held.len())).collect();
        let recorded = oldest.len();
        oldest.into_iter().for_each(|unrecorded| self.record_one(unrecorded));
        recorded
    }

    /// Records all that is held of a subscription, which ends gracefully.
    pub(in crate::scripted) fn record_all(&mut self, subscription: u64) {
        let held = self.held_records.as_mut().map(std::mem::take).unwrap_or_default();
        for unrecorded in held {
            match (unrecorded.subscription == subscription, &mut self.held_records) {
                (false, Some(others)) => others.push_back(unrecorded),
                _ => self.record_one(unrecorded),
            }
        }
    }

    fn record_one(&mut self, Unrecorded { subscription, token, outcome, receipt }: Unrecorded) {
        let recorded = self.settle_now(subscription, token, outcome);
        if let Some(receipt) = receipt {
            receipt.complete(if recorded { Ok(()) } else { Err(SettleError::lost()) });
        }
    }

    fn settle_now(&mut self, subscription: u64, token: Token, outcome: Outcome) -> bool {
        let Some(delivery) = self.disown(subscription, token) else {
            if let Some(out) = self.out.remove(&(subscription, token)) {
                self.ignored.push((out.delivery.message.id().clone(), outcome));
            }
            return false;
        };
        self.out.remove(&(subscription, token));
        self.outcomes.push((delivery.message.id().clone(), outcome.clone()));
        if let Outcome::Nack { delay } = outcome {
            self.put_back(token.position, delivery, delay);
        }
        true
    }
}
