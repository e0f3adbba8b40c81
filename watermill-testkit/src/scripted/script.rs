//! The script, and how far it has been played.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    time::Duration,
};

use tokio::time::Instant;
use watermill_core::{
    Delivery, DeliveryInfo, MessageId, Window,
    delivery::{Origin, Outcome, Token},
    error::{SubscribeError, SubscribeErrorKind},
};

use super::ScriptedDelivery;

/// Between two messages there is room for the new places of a message that is taken away: whoever has
/// the old delivery must not settle the new one.
const POSITION_STEP: u64 = 1 << 16;

/// Everything the clones of a scripted subscriber share.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) redeliver: bool,
    pub(super) fail_subscribe: VecDeque<SubscribeErrorKind>,
    pub(super) subscriber_closed: bool,

    pub(super) subscribe_calls: usize,
    pub(super) subscribed: Vec<String>,
    pub(super) windows: Vec<Window>,
    pub(super) stopped: usize,
    pub(super) closed: usize,
    pub(super) handed_out: usize,
    pub(super) outstanding_max: usize,
    pub(super) outcomes: Vec<(MessageId, Outcome)>,
    pub(super) ignored: Vec<(MessageId, Outcome)>,

    /// What waits to be handed out, by scope and position.
    waiting: BTreeMap<u64, BTreeMap<u64, Waiting>>,
    /// What comes on the stream between the deliveries, by the position of the next of these.
    barriers: VecDeque<(u64, Barrier)>,
    next_position: u64,
    next_subscription: u64,
    /// What is handed out. The entries of a subscription that ended stay, so that a late outcome can
    /// be told by the id of its message.
    out: BTreeMap<(u64, Token), Out>,
    outstanding: usize,
    outstanding_in_scope: BTreeMap<(u64, u64), usize>,
    /// Running subscriptions. Holding their origins makes a circle, which ends with the subscription.
    subscriptions: BTreeMap<u64, Running>,
}

#[derive(Debug)]
pub(super) enum Barrier {
    Fail(SubscribeError),
    End,
}

/// What a subscription does next.
pub(super) enum Next {
    Item(Result<Delivery, SubscribeError>),
    End,
    /// Nothing until something changes, or until then.
    Wait(Option<Instant>),
}

#[derive(Debug)]
struct Waiting {
    delivery: ScriptedDelivery,
    not_before: Option<Instant>,
    fresh: bool,
}

#[derive(Debug)]
struct Out {
    delivery: ScriptedDelivery,
    owned: bool,
}

#[derive(Debug)]
struct Running {
    origin: Origin,
    window: Window,
    intake: bool,
}

impl Script {
    pub(super) fn push(&mut self, delivery: ScriptedDelivery) {
        let scope = self.waiting.entry(delivery.scope).or_default();
        scope.insert(self.next_position, Waiting { delivery, not_before: None, fresh: true });
        self.next_position += POSITION_STEP;
    }

    pub(super) fn push_barrier(&mut self, barrier: Barrier) {
        self.barriers.push_back((self.next_position, barrier));
    }

    pub(super) fn start(&mut self, topic: &str, origin: impl FnOnce(u64) -> Origin) -> u64 {
        let subscription = self.next_subscription;
        self.next_subscription += 1;
        self.subscribed.push(topic.to_owned());
        let running = Running { origin: origin(subscription), window: Window::ONE, intake: true };
        self.subscriptions.insert(subscription, running);
        subscription
    }

    pub(super) fn set_window(&mut self, subscription: u64, window: Window) {
        self.windows.push(window);
        if let Some(running) = self.subscriptions.get_mut(&subscription) {
            running.window = window;
        }
    }

    pub(super) fn stop_intake(&mut self, subscription: u64) {
        if let Some(running) = self.subscriptions.get_mut(&subscription) {
            self.stopped += usize::from(mem::replace(&mut running.intake, false));
        }
    }

    pub(super) fn is_running(&self, subscription: u64) -> bool {
        self.subscriptions.get(&subscription).is_some_and(|running| running.intake)
    }

    /// Ends a subscription and nacks what it has outstanding. Does nothing when it has ended.
    pub(super) fn finish(&mut self, subscription: u64) {
        if self.subscriptions.remove(&subscription).is_none() {
            return;
        }
        for token in self.owned(|of, _| of == subscription) {
            if let Some(delivery) = self.disown(subscription, token) {
                let nack = Outcome::Nack { delay: Duration::ZERO };
                self.outcomes.push((delivery.message.id().clone(), nack));
                self.put_back(token.position, delivery, Duration::ZERO);
            }
        }
    }

    pub(super) fn finish_all(&mut self) {
        self.subscriber_closed = true;
        for subscription in self.subscriptions.keys().copied().collect::<Vec<_>>() {
            self.finish(subscription);
        }
    }

    pub(super) fn revoke(&mut self, scope: u64) -> Vec<Origin> {
        let subscriptions: Vec<_> = self.subscriptions.keys().copied().collect();
        for subscription in subscriptions {
            for token in self.owned(|of, token| of == subscription && token.scope == scope) {
                if let Some(delivery) = self.disown(subscription, token) {
                    self.put_back(token.position + 1, delivery, Duration::ZERO);
                }
            }
        }
        self.subscriptions.values().map(|running| running.origin.clone()).collect()
    }

    pub(super) fn settle(&mut self, subscription: u64, token: Token, outcome: Outcome) -> bool {
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

    pub(super) fn next(&mut self, subscription: u64) -> Next {
        let Some(running) = self.subscriptions.get(&subscription).filter(|running| running.intake) else {
            return Next::End;
        };
        let window = running.window;
        let now = Instant::now();
        let barrier = self.barriers.front().map_or(u64::MAX, |(position, _)| *position);
        let mut wake = None::<Instant>;
        let mut next = None::<(u64, u64)>;
        let mut fresh_before_barrier = false;
        for (&scope, queue) in &self.waiting {
            fresh_before_barrier |= queue.range(..barrier).any(|(_, waiting)| waiting.fresh);
            let out = self.outstanding_in_scope.get(&(subscription, scope)).copied().unwrap_or(0);
            if out >= window.size() {
                continue;
            }
            // A nacked message that waits for its delay holds its scope up, unless order is given up.
            let considered = if window.is_ordered() { 1 } else { usize::MAX };
            for (&position, waiting) in queue.range(..barrier).take(considered) {
                match waiting.not_before.filter(|not_before| *not_before > now) {
                    Some(not_before) => wake = Some(wake.map_or(not_before, |wake| wake.min(not_before))),
                    None => {
                        next = Some(next.map_or((position, scope), |next| next.min((position, scope))));
                        break;
                    }
                }
            }
        }
        if let Some((position, scope)) = next {
            return Next::Item(Ok(self.hand_out(subscription, Token { scope, position })));
        }
        if fresh_before_barrier {
            return Next::Wait(wake);
        }
        match self.barriers.front() {
            Some((_, Barrier::Fail(_))) => match self.barriers.pop_front() {
                Some((_, Barrier::Fail(error))) => Next::Item(Err(error)),
                _ => unreachable!("the first barrier is an error"),
            },
            // Nothing may be on its way back: what is out can be nacked still.
            Some((_, Barrier::End)) if !self.redeliver || (self.outstanding == 0 && wake.is_none()) => {
                Next::End
            }
            _ => Next::Wait(wake),
        }
    }

    pub(super) fn outstanding(&self) -> usize {
        self.outstanding
    }

    pub(super) fn summary(&self) -> String {
        format!(
            "{} handed out, {} of them outstanding, outcomes {:?}, ignored {:?}, {} subscriptions, {} stopped",
            self.handed_out,
            self.outstanding,
            self.outcomes,
            self.ignored,
            self.subscribed.len(),
            self.stopped
        )
    }

    fn hand_out(&mut self, subscription: u64, token: Token) -> Delivery {
        let queue = self.waiting.get_mut(&token.scope).expect("the scope was just seen");
        let delivery = queue.remove(&token.position).expect("the position was just seen").delivery;
        if queue.is_empty() {
            self.waiting.remove(&token.scope);
        }
        self.handed_out += 1;
        self.outstanding += 1;
        self.outstanding_max = self.outstanding_max.max(self.outstanding);
        *self.outstanding_in_scope.entry((subscription, token.scope)).or_default() += 1;

        let origin = self.subscriptions[&subscription].origin.clone();
        let mut info = DeliveryInfo::new(origin, token)
            .with_attempt(delivery.attempt)
            .with_redelivered(delivery.redelivered || delivery.attempt > 1)
            .with_published_at(delivery.published_at);
        if let Some(partition) = delivery.partition {
            info = info.with_partition(partition);
        }
        if let Some(offset) = delivery.offset {
            info = info.with_offset(offset);
        }
        let message = delivery.message.clone();
        self.out.insert((subscription, token), Out { delivery, owned: true });
        Delivery::new(message, info)
    }

    fn owned(&self, of: impl Fn(u64, Token) -> bool) -> Vec<Token> {
        let owned =
            self.out.iter().filter(|((subscription, token), out)| out.owned && of(*subscription, *token));
        owned.map(|((_, token), _)| *token).collect()
    }

    /// Takes a delivery back from a subscription, if the subscription still has it.
    fn disown(&mut self, subscription: u64, token: Token) -> Option<ScriptedDelivery> {
        let out = self.out.get_mut(&(subscription, token)).filter(|out| out.owned)?;
        out.owned = false;
        self.outstanding -= 1;
        if let Some(outstanding) = self.outstanding_in_scope.get_mut(&(subscription, token.scope)) {
            *outstanding -= 1;
        }
        Some(out.delivery.clone())
    }

    fn put_back(&mut self, position: u64, mut delivery: ScriptedDelivery, delay: Duration) {
        if !self.redeliver {
            return;
        }
        delivery.attempt += 1;
        let not_before = (!delay.is_zero()).then(|| Instant::now() + delay);
        let scope = self.waiting.entry(delivery.scope).or_default();
        scope.insert(position, Waiting { delivery, not_before, fresh: false });
    }
}
