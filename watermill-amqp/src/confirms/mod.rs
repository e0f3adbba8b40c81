//! [`Confirms`]: the task that has the confirms of a line.
//!
//! The client hands what the server has returned to whichever confirm is completed next, which may be another
//! message's, even another call's. What was returned of a message is carried, at the latest, by the last confirm of it and
//! of those that were sent before it. So one task has all confirms, and completes calls in their order, once it has looked
//! at every confirm that was there before the last one of the call.

use std::{
    collections::BTreeMap,
    future::ready,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered, task::noop_waker_ref};
use lapin::{Confirmation, message::BasicReturnMessage};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::{Instant, sleep_until},
};

use crate::{connection::Blocked, error::Fault, sent::Sent};

/// How many calls may be on their way at once.
pub(crate) const CALLS_MAX: usize = 1_000;

/// What a call that is on its way takes.
pub(crate) type Place = OwnedSemaphorePermit;
/// Publishes with its first poll, and says what the server has answered.
pub(crate) type Awaited = Pin<Box<dyn Future<Output = lapin::Result<Confirmation>> + Send>>;

/// Hands calls to the task. Dropped, the task ends when it has no more calls.
pub(crate) struct Confirms {
    calls: mpsc::Sender<Handed>,
    handing: Handing,
}

/// A call, with its confirms.
type Handed = (Sent, Vec<Awaited>);
/// Held while a call is on the way to the server and not yet to the task.
type Handing = Arc<Mutex<()>>;

impl Confirms {
    /// `confirm_timeout` is what the calls have.
    pub(crate) fn start(confirm_timeout: Duration, blocked: Blocked) -> Self {
        // There is room for as many as there are places.
        let (calls, incoming) = mpsc::channel(CALLS_MAX);
        let handing = Handing::default();
        let task = Task {
            incoming,
            handing: handing.clone(),
            confirm_timeout,
            blocked,
            awaited: FuturesUnordered::new(),
            calls: BTreeMap::new(),
            next: 0,
            untold: 0,
            returned: Vec::new(),
            heard_at: Instant::now(),
            has_failed: false,
            is_alone: None,
        };
        tokio::spawn(task.run());
        Self { calls, handing }
    }

    /// Sends a call.
    pub(crate) fn send(&self, sent: Sent, mut confirms: Vec<Awaited>) -> Result<(), Fault> {
        let place = self.calls.try_reserve().map_err(|_| Fault::GivenUp)?;
        let handing = lock(&self.handing);
        // The first poll hands the frames to the client. It is polled again by the task.
        let mut nobody = Context::from_waker(noop_waker_ref());
        for confirm in &mut confirms {
            if let Poll::Ready(confirmation) = confirm.as_mut().poll(&mut nobody) {
                *confirm = Box::pin(ready(confirmation));
            }
        }
        place.send((sent, confirms));
        drop(handing);
        Ok(())
    }
}

struct Task {
    incoming: mpsc::Receiver<Handed>,
    handing: Handing,
    confirm_timeout: Duration,
    blocked: Blocked,
    awaited: FuturesUnordered<Confirm>,
    /// By their numbers, which are in their order: those that were not told, and those that were late and are not known,
    /// because their confirms may carry what others are to know.
    calls: BTreeMap<u64, Sent>,
    /// The number of the next one.
    next: u64,
    /// The first that was not told.
    untold: u64,
    /// What the server has returned, and no call has claimed yet.
    returned: Vec<BasicReturnMessage>,
    /// When the server has confirmed something last.
    heard_at: Instant,
    has_failed: bool,
    /// Whether the channel has ended while there was one message on its way, once it has.
    is_alone: Option<bool>,
}

/// A confirm, and whose.
struct Confirm {
    call: u64,
    at: usize,
    awaited: Awaited,
}

impl Future for Confirm {
    type Output = (u64, usize, lapin::Result<Confirmation>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (call, at) = (self.call, self.at);
        self.awaited.as_mut().poll(cx).map(|confirmation| (call, at, confirmation))
    }
}

impl Task {
    async fn run(mut self) {
        let mut is_over = false;
        while !is_over || !self.calls.is_empty() {
            let deadline = self.calls.get(&self.untold).map(|call| call.deadline);
            tokio::select! {
                biased;
                Some(confirm) = self.awaited.next() => self.confirmed(confirm),
                handed = self.incoming.recv(), if !is_over => match handed {
                    Some(handed) => self.add(handed),
                    None => is_over = true,
                },
                () = until(deadline) => {}
            }
            self.look();
            self.claim();
            if self.tell() {
                return;
            }
        }
    }

    /// Looks at every confirm that is there. Whoever is sending meanwhile is waited for: what comes for a call that is
    /// taken in here may have come before what was looked at.
    fn look(&mut self) {
        loop {
            while let Some(Some(confirm)) = self.awaited.next().now_or_never() {
                self.confirmed(confirm);
            }
            drop(lock(&self.handing));
            let known = self.next;
            while let Ok(handed) = self.incoming.try_recv() {
                self.add(handed);
            }
            if self.next == known {
                return;
            }
        }
    }

    fn add(&mut self, (sent, confirms): Handed) {
        let call = self.next;
        self.next += 1;
        self.calls.insert(call, sent);
        let confirms = confirms.into_iter().enumerate();
        self.awaited.extend(confirms.map(|(at, awaited)| Confirm { call, at, awaited }));
    }

    fn confirmed(&mut self, (call, at, confirmation): (u64, usize, lapin::Result<Confirmation>)) {
        match &confirmation {
            Ok(_) => self.heard_at = Instant::now(),
            Err(_) => self.has_failed = true,
        }
        if let Some(sent) = self.calls.get_mut(&call) {
            self.returned.extend(sent.confirmed(at, confirmation));
        }
    }

    /// Finds whose each message is that was returned: that of the first call that has sent such a one.
    fn claim(&mut self) {
        for returned in self.returned.drain(..) {
            if !self.calls.values_mut().any(|call| call.claims(&returned)) {
                let (exchange, key) = (&returned.delivery.exchange, &returned.delivery.routing_key);
                tracing::warn!(
                    exchange = exchange.as_str(),
                    key = key.as_str(),
                    "the server has returned a message of no call that is in progress"
                );
            }
        }
    }

    /// Tells the calls of which all is known, and those that are late. Returns whether the line is given up, because the
    /// server is silent.
    fn tell(&mut self) -> bool {
        if self.has_failed {
            let is_alone = self.calls.len() == 1 && self.calls.values().all(Sent::is_single);
            self.is_alone.get_or_insert(is_alone);
        }
        let (now, after) = (Instant::now(), self.confirm_timeout);
        while let Some(call) = self.calls.get(&self.untold)
            && (call.is_known() || call.deadline <= now)
        {
            let blocked = if call.is_known() { None } else { self.blocked.reason() };
            let was_heard = call.deadline - after < self.heard_at;
            if !call.is_known() && blocked.is_none() && !was_heard {
                self.give_up();
                return true;
            }
            // A server that has blocked us lives: nothing more is sent to it, and what was sent is on its way still.
            let late = || match &blocked {
                Some(reason) => Fault::Blocked(reason.clone()),
                None => Fault::Unconfirmed { after },
            };
            if let Some(call) = self.calls.get_mut(&self.untold) {
                call.tell(self.is_alone.unwrap_or_default(), late);
            }
            self.untold += 1;
        }
        let is_over = |(number, call): (&u64, &Sent)| call.is_known().then_some(*number);
        let over: Vec<u64> = self.calls.range(..self.untold).filter_map(is_over).collect();
        for number in over {
            self.calls.remove(&number);
        }
        false
    }

    fn give_up(&mut self) {
        self.incoming.close();
        self.look();
        self.claim();
        let silent = || Fault::Silent { to: "confirm a message", after: self.confirm_timeout };
        for call in self.calls.values_mut() {
            call.tell(false, silent);
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn lock(handing: &Handing) -> MutexGuard<'_, ()> {
    handing.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
