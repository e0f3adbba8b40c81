//! The script, and how far it has been played.

mod settling;

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
    subscriber::Ordering,
    subscription::{Health, SubscriptionStatus},
};

use super::{ScriptedDelivery, turns::Turns};
use settling::Unrecorded;

/// Between two messages there is room for the new places of a message that is taken away: whoever has
/// the old delivery must not settle the new one.
const POSITION_STEP: u64 = 1 << 16;

/// Everything the clones of a scripted subscriber share.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) redeliver: bool,
    /// Whether subscriptions may have lost what they have, and nobody has said so yet.
    pub(super) is_overdue: bool,
    /// Outcomes that are not recorded yet, where they are held.
    pub(super) held_records: Option<VecDeque<Unrecorded>>,
    pub(super) capabilities: Capabilities,
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
    /// Of each subscription and scope, how many are being handled.
    handling: BTreeMap<(u64, u64), usize>,
    /// Of each subscription, how many are outstanding.
    outstanding_of: BTreeMap<u64, usize>,
    /// Running subscriptions. Holding their origins makes a circle, which ends with the subscription.
    subscriptions: BTreeMap<u64, Running>,
    pub(super) turns: Turns,
}

/// What the subscriber says that it can, and does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capabilities {
    pub(super) ordering: Ordering,
    pub(super) attempts: bool,
    pub(super) nack_delay: bool,
    pub(super) dead_letters: bool,
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
    handled: bool,
}

#[derive(Debug)]
struct Running {
    origin: Origin,
    window: Window,
    intake: bool,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self { ordering: Ordering::Scoped, attempts: true, nack_delay: true, dead_letters: false }
    }
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
        self.turns.join(subscription);
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

    /// Ends a subscription and nacks what it has outstanding. Does nothing when it has ended.
    pub(super) fn finish(&mut self, subscription: u64) {
        if self.subscriptions.remove(&subscription).is_none() {
            return;
        }
        self.turns.leave(subscription);
        if let Some(held) = &mut self.held_records {
            held.retain(|unrecorded| unrecorded.subscription != subscription);
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

    /// The origins of the subscriptions that run, each with its number.
    pub(super) fn origins(&self) -> Vec<(u64, Origin)> {
        self.subscriptions.iter().map(|(number, running)| (*number, running.origin.clone())).collect()
    }

    /// Takes the deliveries of a scope away from a subscription, and returns their tokens.
    pub(super) fn revoke(&mut self, subscription: u64, scope: u64) -> Vec<Token> {
        self.take_back(self.owned(|of, token| of == subscription && token.scope == scope), subscription)
    }

    fn take_back(&mut self, tokens: Vec<Token>, subscription: u64) -> Vec<Token> {
        for token in &tokens {
            if let Some(delivery) = self.disown(subscription, *token) {
                self.put_back(token.position + 1, delivery, Duration::ZERO);
            }
        }
        tokens
    }

    /// The subscription that has the messages.
    pub(super) fn on_turn(&self) -> Option<(u64, Origin)> {
        self.origins().into_iter().find(|(subscription, _)| self.turns.is_on(*subscription))
    }

    /// Ends the turn of a subscription, and returns the tokens of what is taken away from it.
    pub(super) fn pass(&mut self, subscription: u64) -> Vec<Token> {
        if !self.turns.is_on(subscription) {
            return Vec::new();
        }
        self.turns.pass();
        self.take_back(self.owned(|of, _| of == subscription), subscription)
    }

    pub(super) fn handled(&mut self, subscription: u64, token: Token) {
        if let Some(out) = self.out.get_mut(&(subscription, token)).filter(|out| out.owned)
            && !mem::replace(&mut out.handled, true)
        {
            self.leave_handling(subscription, token.scope);
        }
    }

    pub(super) fn status(&self, subscription: u64) -> SubscriptionStatus {
        let outstanding = self.outstanding_of.get(&subscription).copied().unwrap_or(0);
        let running = self.subscriptions.get(&subscription);
        let health =
            if running.is_some_and(|running| running.intake) { Health::Healthy } else { Health::Ended };
        let origin = running.map(|running| &running.origin);
        SubscriptionStatus::new(origin.map_or("", Origin::topic), health)
            .group(origin.and_then(Origin::group))
            .outstanding(outstanding)
    }

    pub(super) fn statuses(&self) -> Vec<SubscriptionStatus> {
        self.subscriptions.keys().map(|subscription| self.status(*subscription)).collect()
    }

    pub(super) fn next(&mut self, subscription: u64) -> Next {
        let Some(running) = self.subscriptions.get(&subscription).filter(|running| running.intake) else {
            return Next::End;
        };
        if !self.turns.is_on(subscription) {
            return Next::Wait(None);
        }
        let window = running.window;
        let now = Instant::now();
        let barrier = self.barriers.front().map_or(u64::MAX, |(position, _)| *position);
        let mut wake = None::<Instant>;
        let mut next = None::<(u64, u64)>;
        let mut fresh_before_barrier = false;
        for (&scope, queue) in &self.waiting {
            fresh_before_barrier |= queue.range(..barrier).any(|(_, waiting)| waiting.fresh);
            let handling = self.handling.get(&(subscription, scope)).copied().unwrap_or(0);
            let outstanding = self.outstanding_of.get(&subscription).copied().unwrap_or(0);
            if handling >= window.per_scope() || outstanding >= window.total() {
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
            return Next::Item(Ok(self.hand_out(subscription, scope, position)));
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

    /// Whether everything was handed out and settled, and every error has come.
    pub(super) fn is_finished(&self) -> bool {
        let fails = self.barriers.iter().any(|(_, barrier)| matches!(barrier, Barrier::Fail(_)));
        self.outstanding == 0 && !fails && self.waiting.values().all(BTreeMap::is_empty)
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

    fn hand_out(&mut self, subscription: u64, scope: u64, position: u64) -> Delivery {
        let queue = self.waiting.get_mut(&scope).expect("the scope was just seen");
        let delivery = queue.remove(&position).expect("the position was just seen").delivery;
        if queue.is_empty() {
            self.waiting.remove(&scope);
        }
        let token = Token { scope, position, delivery: delivery.again };
        self.handed_out += 1;
        self.outstanding += 1;
        self.outstanding_max = self.outstanding_max.max(self.outstanding);
        *self.handling.entry((subscription, token.scope)).or_default() += 1;
        *self.outstanding_of.entry(subscription).or_default() += 1;

        let origin = self.subscriptions[&subscription].origin.clone();
        let counted = if self.capabilities.attempts { delivery.again } else { 0 };
        let attempt = delivery.attempt + counted;
        let mut info = DeliveryInfo::new(origin, token)
            .with_attempt(attempt)
            .with_redelivered(delivery.redelivered || attempt > 1)
            .with_published_at(delivery.published_at);
        if let Some(partition) = delivery.partition {
            info = info.with_partition(partition);
        }
        if let Some(offset) = delivery.offset {
            info = info.with_offset(offset);
        }
        let message = delivery.message.clone();
        self.out.insert((subscription, token), Out { delivery, owned: true, handled: false });
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
        let (delivery, handled) = (out.delivery.clone(), out.handled);
        self.outstanding -= 1;
        if let Some(outstanding) = self.outstanding_of.get_mut(&subscription) {
            *outstanding -= 1;
        }
        if !handled {
            self.leave_handling(subscription, token.scope);
        }
        Some(delivery)
    }

    fn leave_handling(&mut self, subscription: u64, scope: u64) {
        if let Some(handling) = self.handling.get_mut(&(subscription, scope)) {
            *handling -= 1;
        }
    }

    fn put_back(&mut self, position: u64, mut delivery: ScriptedDelivery, delay: Duration) {
        if !self.redeliver {
            return;
        }
        delivery.again += 1;
        let waits = self.capabilities.nack_delay && !delay.is_zero();
        let not_before = waits.then(|| Instant::now() + delay);
        let scope = self.waiting.entry(delivery.scope).or_default();
        scope.insert(position, Waiting { delivery, not_before, fresh: false });
    }
}
