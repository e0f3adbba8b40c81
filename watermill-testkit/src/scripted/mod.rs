//! [`ScriptedSubscriber`]: hands out what it was told to, and remembers what became of it.

mod script;
mod subscriber;
#[cfg(test)]
mod tests;
mod turns;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, SystemTime},
};

use watermill_core::{
    Message, MessageId, Window,
    delivery::Outcome,
    error::{SubscribeError, SubscribeErrorKind},
    subscriber::Ordering,
};

use crate::wait::Watched;
use script::{Barrier, Script};

/// A subscriber for tests of what consumes: handlers, routers, wrappers. It needs no broker.
///
/// It keeps the contract of [`Subscriber`](watermill_core::Subscriber): the window is obeyed in each
/// ordering scope, and what is dropped is nacked. There is one script, whatever topics and groups are
/// subscribed to; clones share it. It may be written before and while it is played.
///
/// ```
/// use futures::StreamExt;
/// use watermill_core::{Message, Subscriber, delivery::Outcome};
/// use watermill_testkit::ScriptedSubscriber;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let subscriber = ScriptedSubscriber::new();
/// subscriber.push(Message::with_id("1", "hello"));
/// subscriber.end();
///
/// let mut subscription = subscriber.subscribe("greetings").await.unwrap();
/// while let Some(delivery) = subscription.next().await {
///     delivery.unwrap().ack();
/// }
/// assert_eq!(subscriber.settled(1).await, [("1".into(), Outcome::Ack)]);
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct ScriptedSubscriber {
    script: Arc<Watched<Script>>,
    group: Option<String>,
}

/// A message to hand out, with the facts that its [`DeliveryInfo`](watermill_core::DeliveryInfo) shall
/// state.
#[derive(Clone, Debug)]
pub struct ScriptedDelivery {
    message: Message,
    scope: u64,
    attempt: u32,
    /// How often it was taken back.
    again: u32,
    redelivered: bool,
    partition: Option<i32>,
    offset: Option<i64>,
    published_at: Option<SystemTime>,
}

impl ScriptedSubscriber {
    /// A subscriber with an empty script, which does not deliver again what is nacked.
    pub fn new() -> Self {
        Self { script: Arc::default(), group: None }
    }

    /// Whether a nacked message comes again, after the delay of the nack and before any later one of
    /// its scope.
    #[must_use]
    pub fn redeliver(self, redeliver: bool) -> Self {
        self.script.change(|script| script.redeliver = redeliver);
        self
    }

    /// Whether it claims to keep what is rejected, as a backend with a place for dead letters does. They are
    /// among the [`outcomes`](Self::outcomes) either way.
    #[must_use]
    pub fn dead_letters(self, dead_letters: bool) -> Self {
        self.script.change(|script| script.capabilities.dead_letters = dead_letters);
        self
    }

    /// Sets the order that it claims. Default: [`Ordering::Scoped`], which it keeps whatever it claims, unless
    /// the [window](Window::is_ordered) gives it up.
    #[must_use]
    pub fn ordering(self, ordering: Ordering) -> Self {
        self.script.change(|script| script.capabilities.ordering = ordering);
        self
    }

    /// Whether it counts how often it delivers a message, from the script's
    /// [`attempt`](ScriptedDelivery::attempt) on, and says so. Default: it does.
    #[must_use]
    pub fn attempts(self, attempts: bool) -> Self {
        self.script.change(|script| script.capabilities.attempts = attempts);
        self
    }

    /// Whether it waits for the delay of a nack before it [delivers again](Self::redeliver), and says so.
    /// Default: it does.
    #[must_use]
    pub fn nack_delay(self, nack_delay: bool) -> Self {
        self.script.change(|script| script.capabilities.nack_delay = nack_delay);
        self
    }

    /// Whether one subscription at a time has the messages, as with a lease: the one that was made first. The others
    /// stand by until that ends, or until somebody [takes over](Self::take_over). Default: all of them have.
    #[must_use]
    pub fn exclusive(self, exclusive: bool) -> Self {
        self.script.change(|script| script.turns.exclusive = exclusive);
        self
    }

    /// Adds a message to the script: a bare [`Message`] belongs to scope 0 and comes for the first
    /// time.
    pub fn push(&self, delivery: impl Into<ScriptedDelivery>) {
        self.script.change(|script| script.push(delivery.into()));
    }

    /// Adds an error: it comes on the stream when everything before it has been handed out.
    pub fn fail(&self, error: SubscribeError) {
        self.script.change(|script| script.push_barrier(Barrier::Fail(error)));
    }

    /// Ends the stream, when everything before has been handed out, and nothing nacked is waiting to
    /// come again: for a consumer that reads to the end.
    ///
    /// A router takes it for what it is with a real backend, a subscription that broke off. A script that it
    /// has played needs no end: let it run [until that](Self::finished).
    pub fn end(&self) {
        self.script.change(|script| script.push_barrier(Barrier::End));
    }

    /// Makes the next `calls` calls of `subscribe` fail with `kind`.
    pub fn fail_subscribe(&self, calls: usize, kind: SubscribeErrorKind) {
        self.script.change(|script| script.fail_subscribe.extend(std::iter::repeat_n(kind, calls)));
    }

    /// Keeps outcomes from being recorded until [`record`](Self::record), as a backend does that collects them:
    /// their receipts wait, and a subscription that is dropped has them not recorded.
    pub fn hold_records(&self) {
        self.script.change(|script| script.held_records = Some(VecDeque::new()));
    }

    /// Records the oldest `count` outcomes that are held, and says how many there were.
    pub fn record(&self, count: usize) -> usize {
        self.script.change(|script| script.record(count))
    }

    /// Takes the outstanding deliveries of a scope away, as a lost lease or a revoked partition does:
    /// whoever watches them is told, and what they are settled with is [ignored](Self::ignored). Where
    /// messages are [redelivered](Self::redeliver), these are.
    pub fn revoke(&self, scope: u64) {
        for (subscription, origin) in self.script.read(Script::origins) {
            origin.revoke(|| self.script.change(|script| script.revoke(subscription, scope)));
        }
    }

    /// Whether the lease by which subscriptions have their messages is over by their own clocks, though nobody has taken
    /// anything away yet: as after a process was stopped. Default: it is not.
    pub fn overdue(&self, is_overdue: bool) {
        self.script.change(|script| script.is_overdue = is_overdue);
    }

    /// Takes everything that is outstanding away from the subscription that [has](Self::exclusive) the messages, as
    /// [`revoke`](Self::revoke) does, and lets the one have them that has stood by for longest.
    pub fn take_over(&self) {
        let Some((subscription, origin)) = self.script.read(Script::on_turn) else { return };
        origin.revoke(|| self.script.change(|script| script.pass(subscription)));
    }

    /// What became of deliveries, in the order they were settled.
    pub fn outcomes(&self) -> Vec<(MessageId, Outcome)> {
        self.script.read(|script| script.outcomes.clone())
    }

    /// Waits until `count` deliveries have been settled, and returns the outcomes of all.
    ///
    /// # Panics
    ///
    /// After [`patience`](crate::patience).
    pub async fn settled(&self, count: usize) -> Vec<(MessageId, Outcome)> {
        self.expect(&format!("{count} settled deliveries"), |script| {
            (script.outcomes.len() >= count).then(|| script.outcomes.clone())
        })
        .await
    }

    /// Waits until everything in the script has been handed out and settled, and nothing that was nacked
    /// waits to come again: when there is nothing left to do for a router.
    ///
    /// ```
    /// use watermill_core::{Handler, Message, Router, delivery::Outcome};
    /// use watermill_testkit::ScriptedSubscriber;
    ///
    /// async fn greet(message: Message) {
    ///     println!("{}", message.id());
    /// }
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let script = ScriptedSubscriber::new();
    /// script.push(Message::with_id("1", "hello"));
    /// let router = Router::new().add(Handler::new("greet", greet).from(script.clone(), "greetings"));
    /// let report = router.run_until(script.finished()).await.unwrap();
    /// assert_eq!(report.handler("greet").unwrap().counts.acked, 1);
    /// # });
    /// ```
    ///
    /// # Panics
    ///
    /// After [`patience`](crate::patience).
    pub async fn finished(&self) {
        self.expect("the end of the script", |script| script.is_finished().then_some(())).await;
    }

    /// Outcomes that came too late: the subscription had ended, or had lost the delivery.
    pub fn ignored(&self) -> Vec<(MessageId, Outcome)> {
        self.script.read(|script| script.ignored.clone())
    }

    /// How many deliveries are handed out and not settled.
    pub fn outstanding(&self) -> usize {
        self.script.read(Script::outstanding)
    }

    /// How many deliveries were outstanding together at most, in all scopes.
    pub fn outstanding_max(&self) -> usize {
        self.script.read(|script| script.outstanding_max)
    }

    /// How many deliveries were handed out, again and again ones included.
    pub fn handed_out(&self) -> usize {
        self.script.read(|script| script.handed_out)
    }

    /// Waits until `count` deliveries have been handed out.
    ///
    /// # Panics
    ///
    /// After [`patience`](crate::patience).
    pub async fn await_handed_out(&self, count: usize) {
        let what = format!("{count} deliveries handed out");
        self.expect(&what, |script| (script.handed_out >= count).then_some(())).await;
    }

    /// The topics subscribed to, one for each successful call.
    pub fn subscribed(&self) -> Vec<String> {
        self.script.read(|script| script.subscribed.clone())
    }

    /// How often `subscribe` was called, failed calls included.
    pub fn subscribe_calls(&self) -> usize {
        self.script.read(|script| script.subscribe_calls)
    }

    /// Waits until `count` calls of `subscribe` have succeeded.
    ///
    /// # Panics
    ///
    /// After [`patience`](crate::patience).
    pub async fn await_subscribed(&self, count: usize) {
        let what = format!("{count} subscriptions");
        self.expect(&what, |script| (script.subscribed.len() >= count).then_some(())).await;
    }

    /// The windows that were asked for, in order.
    pub fn windows(&self) -> Vec<Window> {
        self.script.read(|script| script.windows.clone())
    }

    /// How many subscriptions were told to stop taking messages.
    pub fn stopped(&self) -> usize {
        self.script.read(|script| script.stopped)
    }

    /// Waits until `count` subscriptions have been told to stop taking messages.
    ///
    /// # Panics
    ///
    /// After [`patience`](crate::patience).
    pub async fn await_stopped(&self, count: usize) {
        let what = format!("{count} stopped subscriptions");
        self.expect(&what, |script| (script.stopped >= count).then_some(())).await;
    }

    /// How many subscriptions were closed, as opposed to dropped.
    pub fn closed(&self) -> usize {
        self.script.read(|script| script.closed)
    }

    /// Whether the subscriber itself was closed.
    pub fn is_closed(&self) -> bool {
        self.script.read(|script| script.subscriber_closed)
    }

    async fn expect<R>(&self, what: &str, look: impl FnMut(&Script) -> Option<R>) -> R {
        self.script.expect(what, look, Script::summary).await
    }
}

impl Default for ScriptedSubscriber {
    fn default() -> Self {
        Self::new()
    }
}

impl ScriptedDelivery {
    /// The first delivery of a message, in scope 0.
    pub fn new(message: Message) -> Self {
        Self {
            message,
            scope: 0,
            attempt: 1,
            again: 0,
            redelivered: false,
            partition: None,
            offset: None,
            published_at: None,
        }
    }

    /// Sets the ordering scope.
    #[must_use]
    pub fn scope(mut self, scope: u64) -> Self {
        self.scope = scope;
        self
    }

    /// Sets the attempt; more than one means redelivered.
    #[must_use]
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// Says that it may have been delivered before.
    #[must_use]
    pub fn redelivered(mut self, redelivered: bool) -> Self {
        self.redelivered = redelivered;
        self
    }

    /// Sets the partition, and the scope that goes with it.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self.scope(u64::from(partition.unsigned_abs()))
    }

    /// Sets the offset.
    #[must_use]
    pub fn offset(mut self, offset: i64) -> Self {
        self.offset = Some(offset);
        self
    }

    /// Says that it was published this long ago.
    #[must_use]
    pub fn age(mut self, age: Duration) -> Self {
        self.published_at = SystemTime::now().checked_sub(age);
        self
    }
}

impl From<Message> for ScriptedDelivery {
    fn from(message: Message) -> Self {
        Self::new(message)
    }
}
