//! [`Requests`]: how an outcome becomes the answer to a request.

use std::time::SystemTime;

use tokio::{sync::oneshot, time::Instant};
use watermill_core::{
    Message, Window,
    backend::{ById, Incoming, Ledger, Nacks, Offer, Settled, Unrecorded},
    delivery::{Outcome, Receipt, Token},
    error::SettleError,
};

/// The requests that a subscription has in hand: each is answered as soon as it is settled, without a task between.
#[derive(Debug)]
pub(crate) struct Requests {
    by_id: ById<Request>,
    topic: String,
}

/// A request that waits for its answer. Dropped unanswered, there is none to be had here.
#[derive(Debug)]
pub(crate) struct Request {
    number: u64,
    answer: Option<oneshot::Sender<Settlement>>,
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Settlement {
    Handled(Outcome),
    /// It was given back, and nobody has begun with it.
    NotBegun,
}

impl Requests {
    pub(crate) fn new(topic: &str) -> Self {
        // Each is a scope of its own: nobody knows in which order requests should be, and none is given back for
        // what another has met.
        Self { by_id: ById::new(Nacks::ToServer).scoped(), topic: topic.to_owned() }
    }

    /// How many are in hand.
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Takes in a request, by a number that no other has.
    pub(crate) fn push(&mut self, number: u64, message: Message) -> oneshot::Receiver<Settlement> {
        let (sender, answer) = oneshot::channel();
        let request = Request { number, answer: Some(sender) };
        self.by_id.push(Incoming::new(request, message).scope(number), Instant::now());
        answer
    }

    /// Nobody waits for the answer any more.
    pub(crate) fn lose(&mut self, number: u64) -> Vec<Token> {
        self.by_id.lose_where(|request| request.number == number)
    }

    /// Answers what nobody has begun with.
    pub(crate) fn give_back_fresh(&mut self) {
        self.by_id.give_back_fresh(Instant::now());
        self.answer();
    }

    /// Who has hung up meanwhile has lost the delivery, whatever became of it.
    fn answer(&mut self) {
        for mut settled in self.by_id.take_settled(usize::MAX) {
            let heard = settled.id.answer.take().is_some_and(|answer| answer.send(said(&settled)).is_ok());
            if heard {
                settled.log_if_dropped(&self.topic);
                settled.recorded();
            } else {
                settled.lost();
            }
        }
    }
}

fn said(settled: &Settled<Request>) -> Settlement {
    match settled.tried {
        true => Settlement::Handled(settled.outcome.clone()),
        false => Settlement::NotBegun,
    }
}

impl Ledger for Requests {
    fn next(&mut self, now: Instant) -> Offer {
        self.by_id.next(now)
    }

    fn settle(&mut self, token: Token, outcome: Outcome, receipt: Option<Receipt>, now: Instant) -> bool {
        let is_settled = self.by_id.settle(token, outcome, receipt, now);
        self.answer();
        is_settled
    }

    fn handled(&mut self, token: Token) -> bool {
        self.by_id.handled(token)
    }

    fn set_window(&mut self, window: Window) {
        self.by_id.set_window(window);
    }

    /// Requests come by themselves.
    fn wants_more(&self) -> bool {
        false
    }

    fn outstanding(&self) -> usize {
        self.by_id.outstanding()
    }

    fn tokens(&self) -> Vec<Token> {
        self.by_id.tokens()
    }

    fn unrecorded(&self) -> Unrecorded {
        Unrecorded::default()
    }

    fn give_back(&mut self, now: Instant) {
        self.by_id.give_back(now);
        self.answer();
    }

    fn lose(&mut self, why: fn() -> SettleError) {
        self.by_id.lose(why);
    }

    fn oldest(&self) -> Option<SystemTime> {
        self.by_id.oldest()
    }
}
