//! [`Pair`]: what a subscriber and the publisher that commits its positions share.

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, mpsc},
    time::Duration,
};

use tokio::{
    sync::{Notify, futures::Notified},
    time::{Instant, timeout_at},
};
use watermill_core::{
    backend::{Failure, Trouble},
    error::{PublishError, chain},
};

use super::{
    open::{Cause, Open, Settled},
    refusals::Refusals,
};
use crate::{
    KafkaPublisherConfig, client::Client, ledger::Enlistment, producer::Client as Producer, report::Call,
    topic_locks::TopicLocks,
};

/// How long the next transaction is waited for.
const BETWEEN_MAX: Duration = Duration::from_millis(200);

/// The subscriber's side and the publisher's side of transactions, and the one that is open.
pub(super) struct Pair {
    config: KafkaPublisherConfig,
    id: String,
    topic_locks: Arc<TopicLocks>,
    state: Mutex<State>,
    /// Rung when a call may be let in, or a transaction may end.
    changed: Notify,
    /// Rung when a transaction is to end.
    due: Notify,
}

#[derive(Default)]
struct State {
    phase: Phase,
    /// Whether the open transaction is to end.
    due: bool,
    /// Whether anybody has ever joined.
    joined: bool,
    closed: bool,
    /// Those whose positions are committed.
    clients: Vec<Weak<Client>>,
    /// Those who wait for the end of a transaction.
    waiting: Vec<Waiting>,
    refusals: Refusals,
}

/// Whoever waits for the end of a transaction, on a thread that may.
pub(super) type Waiting = mpsc::SyncSender<Result<(), Ended>>;

#[derive(Default)]
enum Phase {
    /// The next transaction is on its way.
    #[default]
    Between,
    Open(Open),
    /// There is none, and for this reason.
    Down(Ended),
}

/// Why there is no transaction.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) trouble: Trouble,
    pub(super) reason: String,
}

/// A call that was let in. It is to say when it has queued its messages.
pub(super) struct Entered<'p> {
    pair: &'p Pair,
    pub(super) producer: Arc<Producer>,
    pub(super) call: Arc<Call>,
    pub(super) first: usize,
    done: bool,
}

impl Pair {
    pub(super) fn new(config: KafkaPublisherConfig, id: String) -> Arc<Self> {
        let (state, changed, due) = (Mutex::default(), Notify::new(), Notify::new());
        let topic_locks = Arc::default();
        Arc::new(Self { config, id, topic_locks, state, changed, due })
    }

    pub(super) fn config(&self) -> &KafkaPublisherConfig {
        &self.config
    }

    pub(super) fn topic_locks(&self) -> &Arc<TopicLocks> {
        &self.topic_locks
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is the first to join, with whom the transactions begin.
    pub(super) fn join(&self, client: &Arc<Client>) -> bool {
        let mut state = self.lock();
        state.clients.retain(|client| client.strong_count() > 0);
        state.clients.push(Arc::downgrade(client));
        !std::mem::replace(&mut state.joined, true)
    }

    pub(super) fn clients(&self) -> Vec<Arc<Client>> {
        self.lock().clients.iter().filter_map(Weak::upgrade).collect()
    }

    pub(super) fn over(&self) -> Option<Failure> {
        match &self.lock().phase {
            Phase::Down(ended) if ended.is_final() => Some(ended.failure()),
            _ => None,
        }
    }

    /// Something was settled, or lost.
    pub(super) fn enlisted_changed(&self) {
        self.changed.notify_waiters();
    }

    /// Ends the open transaction soon.
    pub(super) fn commit_soon(&self) {
        self.lock().due = true;
        self.due.notify_one();
    }

    /// Ends the open transaction, and waits for that; blocks.
    pub(super) fn end(&self, timeout: Duration) -> Result<(), Failure> {
        let (sender, ended) = mpsc::sync_channel(1);
        let timeout = {
            let mut state = self.lock();
            let timeout = match &state.phase {
                Phase::Down(ended) => return Err(ended.failure()),
                Phase::Open(_) => timeout,
                // It comes soon, unless it waits for something that the caller is to do.
                Phase::Between => timeout.min(BETWEEN_MAX),
            };
            state.waiting.push(sender);
            timeout
        };
        self.due.notify_one();
        match ended.recv_timeout(timeout) {
            Ok(ended) => ended.map_err(|ended| ended.failure()),
            Err(_) => Err(Failure::because(Trouble::Timeout, "the transaction has not ended in time")),
        }
    }

    /// The same, if there is one and anything in it.
    pub(super) fn flush(&self, timeout: Duration) -> Result<(), Failure> {
        let used = matches!(&self.lock().phase, Phase::Open(open) if open.since.is_some());
        if used { self.end(timeout) } else { Ok(()) }
    }

    /// Lets a call in: enlists its deliveries, and waits while they cannot be. In no transaction at all
    /// the call has to fail.
    pub(super) async fn enter(
        &self,
        topic: &Arc<str>,
        messages: usize,
        causes: Vec<Cause>,
    ) -> Result<Entered<'_>, Failure> {
        let not_ours = |detail: &str| Failure::because(Trouble::Unavailable, detail);
        let mut patience: Option<Instant> = None;
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let early = {
                let mut state = self.lock();
                match &mut state.phase {
                    Phase::Down(ended) if ended.is_final() => return Err(ended.failure()),
                    // It is no fault of a message that it has to wait, and nothing for a failure policy.
                    Phase::Down(_) | Phase::Between => false,
                    Phase::Open(open) => match open.enlist(&causes) {
                        Some(Enlistment::Made) => {
                            let (producer, call) = (open.producer.clone(), open.call.clone());
                            let first = open.enter(topic, messages, causes);
                            return Ok(Entered { pair: self, producer, call, first, done: false });
                        }
                        Some(Enlistment::Lost) => {
                            return Err(not_ours("the delivery that it was made of is not ours any more"));
                        }
                        Some(Enlistment::Behind) => {
                            return Err(not_ours(
                                "a message before it in the partition comes again, and so does it",
                            ));
                        }
                        Some(Enlistment::Early) => true,
                        None => false,
                    },
                }
            };
            if !early {
                patience = None;
                changed.await;
                continue;
            }
            // Handlers may wait for each other in a circle, where each is behind something of another partition.
            let until = *patience.get_or_insert_with(|| Instant::now() + self.config.request_timeout);
            if timeout_at(until, changed).await.is_err() {
                return Err(not_ours("messages before it in the partition are still being handled"));
            }
        }
    }

    /// A call of these deliveries has failed. If more was published of one of them, it comes again as a whole.
    pub(super) fn failed(&self, causes: &[Cause], error: &PublishError) {
        let mut state = self.lock();
        let Phase::Open(open) = &mut state.phase else { return };
        if causes.iter().any(Cause::is_enlisted) {
            open.broken.get_or_insert_with(|| chain(error));
            state.refusals.insert(causes, error);
            state.due = true;
            self.due.notify_one();
        }
    }

    /// What was refused for good of deliveries that come again.
    pub(super) fn refusals<R>(&self, look: impl FnOnce(&mut Refusals) -> R) -> R {
        look(&mut self.lock().refusals)
    }

    /// A transaction is open from now on.
    pub(super) fn open(&self, producer: Arc<Producer>) {
        self.lock().phase = Phase::Open(Open::new(producer));
        self.changed.notify_waiters();
    }

    /// There is no transaction, and for this reason.
    pub(super) fn down(&self, ended: &Ended) {
        let waiting = {
            let mut state = self.lock();
            state.phase = Phase::Down(ended.clone());
            std::mem::take(&mut state.waiting)
        };
        self.changed.notify_waiters();
        tell(waiting, &Err(ended.clone()));
    }

    /// Waits until the open transaction is to end: whoever waits for that now is told how it did.
    pub(super) async fn until_due(&self) -> Vec<Waiting> {
        loop {
            {
                let mut state = self.lock();
                let due = std::mem::take(&mut state.due) || state.closed || !state.waiting.is_empty();
                if due {
                    if let Phase::Open(open) = &mut state.phase {
                        open.close();
                    }
                    return std::mem::take(&mut state.waiting);
                }
            }
            self.due.notified().await;
        }
    }

    /// Waits until what is enlisted in the open transaction is done, or until that cannot be, and takes it.
    /// Nobody is waited for beyond `patience` from its first message on.
    pub(super) async fn take(&self, patience: Duration) -> Option<Open> {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let until = {
                let mut state = self.lock();
                let Phase::Open(open) = &mut state.phase else { return None };
                let until = open.since.filter(|_| open.broken.is_none()).map(|since| since + patience);
                match open.settled() {
                    Settled::NotYet => until,
                    Settled::Yes | Settled::No => {
                        let Phase::Open(open) = std::mem::take(&mut state.phase) else { return None };
                        return Some(open);
                    }
                }
            };
            self.until(changed, until).await;
        }
    }

    async fn until(&self, changed: std::pin::Pin<&mut Notified<'_>>, until: Option<Instant>) {
        let Some(until) = until else { return changed.await };
        if timeout_at(until, changed).await.is_err()
            && let Phase::Open(open) = &mut self.lock().phase
        {
            let reason = "a delivery that something was published for was not settled in time";
            open.broken.get_or_insert_with(|| reason.to_owned());
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.due.notify_one();
    }

    /// Ends when the transactions are to end.
    pub(super) async fn closed(&self) {
        while !self.is_closed() {
            self.due.notified().await;
        }
    }
}

impl Ended {
    pub(super) fn new(trouble: Trouble, reason: impl Into<String>) -> Self {
        Self { trouble, reason: reason.into() }
    }

    /// Whether there will be no other transaction.
    pub(super) fn is_final(&self) -> bool {
        matches!(self.trouble, Trouble::Fenced | Trouble::Refused | Trouble::Config)
    }

    pub(super) fn failure(&self) -> Failure {
        Failure::because(self.trouble, self.reason.clone())
    }
}

impl Entered<'_> {
    /// All messages of the call are queued.
    pub(super) fn leave(mut self) {
        self.done = true;
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if let Phase::Open(open) = &mut self.pair.lock().phase {
            open.left(self.done);
        }
        self.pair.changed.notify_waiters();
    }
}

pub(super) fn tell(waiting: Vec<Waiting>, ended: &Result<(), Ended>) {
    for waiting in waiting {
        // Who has not the time to wait is gone.
        let _ = waiting.send(ended.clone());
    }
}
