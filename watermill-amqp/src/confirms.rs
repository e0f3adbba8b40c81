//! [`Line`]: a channel with publisher confirms, on which calls follow each other without waiting.
//!
//! The client hands what the server has returned to whichever confirm is completed next, which may be another
//! message's, even another call's. So one task has all confirms: it looks at them in their order, keeps what was
//! returned, and completes a call when every call before it is complete and all confirms behind it were looked at.
//! Whatever carries what was returned of a call was completed before that call's own confirms.

use std::{
    collections::{HashSet, VecDeque},
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex as BlockingMutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::task::noop_waker_ref;
use lapin::{
    BasicProperties, Channel, Confirmation,
    message::BasicReturnMessage,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::ShortString,
};
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::unconstrained,
    time::{Instant, timeout_at},
};
use watermill_core::{
    Message,
    backend::{Connect, Failure, Trouble},
};

use crate::{
    Exchange,
    connection::{Blocked, Open, ToServer},
    declare,
    error::{Fault, classify, within},
    marshaler::{self, Record},
};

/// How many calls may be on their way at once; others wait.
const CALLS_MAX: usize = 1_000;

/// How a line is made.
pub(crate) struct ToLine {
    pub(crate) server: ToServer,
    /// For each answer.
    pub(crate) timeout: Duration,
    /// For the confirms of a call.
    pub(crate) confirm_timeout: Duration,
}

/// A connection with one channel, for publishing.
#[derive(Clone)]
pub(crate) struct Line(Arc<Inner>);

struct Inner {
    open: Open,
    channel: Arc<Channel>,
    calls: mpsc::Sender<Sent>,
    /// For so many calls that are on their way.
    places: Arc<Semaphore>,
    /// What a frame may hold, as agreed with the server.
    frame_max: usize,
    /// Which exchanges are there.
    ready: BlockingMutex<HashSet<String>>,
    /// Calls that wait until that is known stand here in their order.
    turn: Mutex<()>,
    waiting: AtomicUsize,
    timeout: Duration,
    confirm_timeout: Duration,
}

/// Where a call publishes to.
pub(crate) struct Route {
    pub(crate) exchange: Exchange,
    pub(crate) routing_key: String,
    pub(crate) mandatory: bool,
    /// Whether the exchange is made where it is missing.
    pub(crate) declares: bool,
}

/// A call that was sent.
struct Sent {
    messages: Vec<Message>,
    confirms: Vec<Confirm>,
    deadline: Instant,
    _place: OwnedSemaphorePermit,
    done: oneshot::Sender<Result<(), Fault>>,
}

enum Confirm {
    Awaited(Pin<Box<dyn Future<Output = lapin::Result<Confirmation>> + Send>>),
    Accepted,
    Failed(Fault),
}

impl Line {
    /// Publishes. The first poll sends, unless it has to be found out whether the exchange is there; calls keep their
    /// order all the same.
    pub(crate) async fn publish(
        self,
        route: Route,
        messages: Vec<Message>,
        records: Vec<Record>,
    ) -> Result<(), Fault> {
        let places = self.0.places.clone();
        let place = if self.may_send(&route) { places.clone().try_acquire_owned().ok() } else { None };
        let answer = if let Some(place) = place {
            self.send(&route, messages, records, place)?
        } else {
            let _waiting = Waiting::new(&self.0.waiting);
            let _turn = unconstrained(self.0.turn.lock()).await;
            self.prepare(&route).await?;
            let place = places.acquire_owned().await.map_err(|_| Fault::GivenUp)?;
            self.send(&route, messages, records, place)?
        };
        drop(self);
        answer.await.unwrap_or(Err(Fault::GivenUp))
    }

    fn may_send(&self, route: &Route) -> bool {
        self.0.waiting.load(Ordering::Acquire) == 0 && self.is_ready(&route.exchange)
    }

    fn is_ready(&self, exchange: &Exchange) -> bool {
        exchange.is_default() || self.ready().contains(&exchange.name)
    }

    fn ready(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.0.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the exchange, on a channel of its own: what the server refuses ends the channel.
    async fn prepare(&self, route: &Route) -> Result<(), Fault> {
        if !self.is_ready(&route.exchange) {
            let channel = self.0.open.channel().await?;
            let made = declare::exchange(&channel, &route.exchange, route.declares);
            within(self.0.timeout, "declare an exchange", made).await.map_err(not_of_the_line)?;
            self.ready().insert(route.exchange.name.clone());
        }
        Ok(())
    }

    /// All messages, one after another, without a pause in which another call could send.
    fn send(
        &self,
        route: &Route,
        messages: Vec<Message>,
        records: Vec<Record>,
        place: OwnedSemaphorePermit,
    ) -> Result<oneshot::Receiver<Result<(), Fault>>, Fault> {
        let exchange = declare::name(&route.exchange.name, "exchange")?;
        let key = declare::name(&route.routing_key, "routing key")?;
        let frame_max = self.0.frame_max;
        if let Some(at) = records.iter().position(|record| record.frame_bytes > frame_max) {
            let bytes = records[at].frame_bytes;
            let why = format!(
                "message {at}: its metadata take a frame of {bytes} bytes, more than the server's {frame_max}"
            );
            return Err(Fault::Found(Trouble::Message, why));
        }
        let mut confirms: Vec<_> = messages
            .iter()
            .zip(records)
            .map(|(message, record)| {
                let payload = message.payload().clone();
                let options = BasicPublishOptions { mandatory: route.mandatory, immediate: false };
                let channel = self.0.channel.clone();
                let confirm =
                    publish(channel, exchange.clone(), key.clone(), options, payload, record.properties);
                Confirm::Awaited(Box::pin(confirm))
            })
            .collect();
        // The first poll hands the frames to the client. It is polled again by the task.
        let mut nobody = Context::from_waker(noop_waker_ref());
        for confirm in &mut confirms {
            let _ = confirm.poll(&mut nobody, &mut Vec::new());
        }
        let (done, answer) = oneshot::channel();
        let deadline = Instant::now() + self.0.confirm_timeout;
        // There is room for as many as there are places.
        let sent = Sent { messages, confirms, deadline, _place: place, done };
        self.0.calls.try_send(sent).map_err(|_| Fault::GivenUp)?;
        Ok(answer)
    }

    /// Says goodbye to the server.
    pub(crate) async fn close(self) {
        self.0.open.close().await;
    }

    /// The name of the queue in which messages wait so long for coming back to a queue.
    pub(crate) async fn delay_queue(&self, back_to: &str, delay: Duration) -> Result<ShortString, Fault> {
        let channel = self.0.open.channel().await?;
        let made = declare::delay_queue(&channel, back_to, delay);
        within(self.0.timeout, "declare a queue for a delay", made).await.map_err(not_of_the_line)
    }
}

/// An error of a channel that is not the line's leaves the line as it is.
fn not_of_the_line(fault: Fault) -> Fault {
    if fault.ends_connection() {
        return fault;
    }
    let failure = classify(fault);
    Fault::Found(failure.trouble(), failure.text())
}

async fn publish(
    channel: Arc<Channel>,
    exchange: ShortString,
    key: ShortString,
    options: BasicPublishOptions,
    payload: Bytes,
    properties: BasicProperties,
) -> lapin::Result<Confirmation> {
    channel.basic_publish(exchange, key, options, &payload, properties).await?.await
}

impl Confirm {
    /// Whether it is known by now. What was returned goes to the others of its kind.
    fn poll(&mut self, cx: &mut Context<'_>, returned: &mut Vec<BasicReturnMessage>) -> Poll<()> {
        let Self::Awaited(confirmation) = self else { return Poll::Ready(()) };
        let Poll::Ready(confirmation) = confirmation.as_mut().poll(cx) else { return Poll::Pending };
        *self = match confirmation {
            Ok(Confirmation::Nack(message)) => {
                returned.extend(message);
                let why = "the server did not take it: a queue is full, or has met a fault";
                Self::Failed(Fault::Found(Trouble::Unavailable, why.to_owned()))
            }
            Ok(confirmation) => {
                returned.extend(confirmation.take_message());
                Self::Accepted
            }
            Err(error) => Self::Failed(error.into()),
        };
        Poll::Ready(())
    }
}

/// The task that has the confirms of a line.
async fn confirm(mut calls: mpsc::Receiver<Sent>, confirm_timeout: Duration, blocked: Blocked) {
    let mut waiting: VecDeque<Sent> = VecDeque::new();
    let mut returned = Vec::new();
    loop {
        if waiting.is_empty() {
            returned.clear();
            let Some(sent) = calls.recv().await else { return };
            waiting.push_back(sent);
        }
        let Some(head) = waiting.front_mut() else { continue };
        let (deadline, confirms) = (head.deadline, &mut head.confirms);
        let in_time = timeout_at(deadline, all(confirms, &mut returned)).await.is_ok();
        while let Ok(sent) = calls.try_recv() {
            waiting.push_back(sent);
        }
        // In their order, so that what a call's confirms say is never older than what those behind it say.
        poll_fn(|cx| {
            for confirm in waiting.iter_mut().flat_map(|sent| &mut sent.confirms) {
                let _ = confirm.poll(cx, &mut returned);
            }
            Poll::Ready(())
        })
        .await;
        // A server that has blocked us lives: nothing more is sent to it, and what was sent is on its way still.
        let blocked = if in_time { None } else { blocked.reason() };
        let is_given_up = !in_time && blocked.is_none();
        let now = Instant::now();
        while waiting.front().is_some_and(|sent| is_given_up || sent.deadline <= now || sent.is_known()) {
            if let Some(sent) = waiting.pop_front() {
                sent.complete(&mut returned, || match &blocked {
                    Some(reason) => Fault::Blocked(reason.clone()),
                    None => Fault::Silent { to: "confirm a message", after: confirm_timeout },
                });
            }
        }
        if is_given_up {
            calls.close();
        }
    }
}

async fn all(confirms: &mut [Confirm], returned: &mut Vec<BasicReturnMessage>) {
    for confirm in confirms {
        poll_fn(|cx| confirm.poll(cx, returned)).await;
    }
}

impl Sent {
    fn is_known(&self) -> bool {
        self.confirms.iter().all(|confirm| !matches!(confirm, Confirm::Awaited(_)))
    }

    /// Tells the caller, who may have gone.
    fn complete(mut self, returned: &mut Vec<BasicReturnMessage>, silent: impl Fn() -> Fault) {
        returned.retain(|message| !self.is_ours(message));
        let mut failed: Vec<(usize, Fault)> = Vec::new();
        for (at, confirm) in self.confirms.into_iter().enumerate() {
            match confirm {
                Confirm::Accepted => {}
                Confirm::Failed(why) => failed.push((at, why)),
                Confirm::Awaited(_) => failed.push((at, silent())),
            }
        }
        let _ = self.done.send(outcome(&self.messages, failed));
    }

    /// Takes note that one of this call's messages was returned. Of two that are the same, one is like the other.
    fn is_ours(&mut self, returned: &BasicReturnMessage) -> bool {
        let Ok(message) = marshaler::read(&returned.delivery.properties, returned.delivery.data.clone())
        else {
            return false;
        };
        let accepted = |at: &usize| matches!(self.confirms[*at], Confirm::Accepted);
        let at = (0..self.messages.len()).filter(accepted).find(|at| self.messages[*at] == message);
        let Some(at) = at else { return false };
        let (exchange, key) = (&returned.delivery.exchange, &returned.delivery.routing_key);
        let why = format!(
            "no queue takes it: {} (exchange {:?}, routing key {:?}); subscribe first, or publish without `mandatory`",
            returned.reply_text,
            exchange.as_str(),
            key.as_str()
        );
        self.confirms[at] = Confirm::Failed(Fault::Found(Trouble::Topic, why));
        true
    }
}

/// What the caller is told. Behind a message that was not accepted, the others of its key are not either, as far as
/// the caller is to know: published again, they come in their order.
fn outcome(messages: &[Message], failed: Vec<(usize, Fault)>) -> Result<(), Fault> {
    if failed.is_empty() {
        return Ok(());
    }
    let not_accepted: HashSet<usize> = failed.iter().map(|(at, _)| *at).collect();
    let mut keys: HashSet<Option<&Bytes>> = HashSet::new();
    let mut positions = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        if keys.contains(&message.key()) || not_accepted.contains(&at) {
            keys.insert(message.key());
            positions.push(at);
        }
    }
    // What ends the line first, for the next call needs another; then what passes, for trying again may help.
    let worst = failed.into_iter().min_by_key(|(at, why)| (!why.ends_channel(), !why.is_passing(), *at));
    worst.map_or(Ok(()), |(_, why)| Err(Fault::Partly { positions, why: Box::new(why) }))
}

/// Counted while it is there.
struct Waiting<'l>(&'l AtomicUsize);

impl<'l> Waiting<'l> {
    fn new(waiting: &'l AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::AcqRel);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[async_trait]
impl Connect for ToLine {
    type Connection = Line;
    type Error = Fault;

    async fn connect(&self) -> Result<Line, Fault> {
        let open = self.server.open().await?;
        let channel = Arc::new(open.channel().await?);
        let confirms = channel.confirm_select(ConfirmSelectOptions::default());
        within(self.timeout, "confirm what is published", confirms).await?;
        let frame_max = usize::try_from(open.native.configuration().frame_max()).unwrap_or(usize::MAX);
        let (calls, sent) = mpsc::channel(CALLS_MAX);
        tokio::spawn(confirm(sent, self.confirm_timeout, self.server.blocked.clone()));
        Ok(Line(Arc::new(Inner {
            open,
            channel,
            calls,
            places: Arc::new(Semaphore::new(CALLS_MAX)),
            frame_max,
            ready: BlockingMutex::default(),
            turn: Mutex::new(()),
            waiting: AtomicUsize::new(0),
            timeout: self.timeout,
            confirm_timeout: self.confirm_timeout,
        })))
    }

    fn is_lost(&self, fault: &Fault) -> bool {
        fault.ends_channel()
    }

    fn classify(&self, fault: Fault) -> Failure {
        classify(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_what_was_not_accepted_its_key_is_not_either() {
        let messages = [("1", "a"), ("2", "b"), ("3", "a"), ("4", "b")]
            .map(|(id, key)| Message::with_id(id, "x").with_key(key));
        let failed = vec![(1, Fault::Found(Trouble::Topic, String::new()))];
        let Err(Fault::Partly { positions, .. }) = outcome(&messages, failed) else { panic!("it failed") };
        assert_eq!(positions, [1, 3]);
        assert!(outcome(&messages, Vec::new()).is_ok());
    }

    #[test]
    fn the_reason_given_is_the_one_that_asks_for_another_line() {
        let messages = [Message::new("1"), Message::new("2")];
        let failed = vec![
            (0, Fault::Found(Trouble::Topic, String::new())),
            (1, Fault::Silent { to: "x", after: Duration::ZERO }),
        ];
        let fault = outcome(&messages, failed).unwrap_err();
        assert!(fault.ends_channel() && fault.is_passing());
    }
}
