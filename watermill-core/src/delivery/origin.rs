//! [`Origin`]: what all deliveries of one subscription share.

use std::{
    any::Any,
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio_util::sync::CancellationToken;

use super::{Outcome, Receipt, Settle};

/// Names one outstanding delivery of a subscription to the backend that made it.
///
/// Two numbers, so that a backend finds its record without a table of its own: a Kafka partition and
/// offset, a log table and an offset, a queue and a sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token {
    /// The ordering scope the delivery belongs to.
    pub scope: u64,
    /// Its place in that scope; later deliveries of a scope have larger ones.
    pub position: u64,
}

/// Where deliveries come from: one value for each subscription, shared by all of its deliveries.
///
/// A backend builds one when it subscribes and hands out clones (one reference count each):
/// deliveries cost no allocation. Its [`Settle`] implementation is told every outcome.
#[derive(Clone)]
pub struct Origin(Arc<Shared>);

struct Shared {
    backend: &'static str,
    topic: String,
    group: Option<String>,
    /// Deliveries that were dropped unsettled, and so nacked.
    dropped: AtomicU64,
    notes: Notes,
    /// The subscription is over.
    revoked: AtomicBool,
    settle: Box<dyn Settle>,
}

/// Told the outcome of one delivery. It never blocks and never panics, as [`Settle::settle`].
type Listener = Box<dyn FnOnce(&Outcome) + Send>;

/// What is noted about a few outstanding deliveries. Nearly always there are none, so looking for one
/// must cost one load.
#[derive(Default)]
struct Notes {
    len: AtomicUsize,
    by_token: Mutex<HashMap<Token, Note>>,
}

#[derive(Default)]
struct Note {
    /// Cancelled when the delivery is settled or lost.
    watch: Option<CancellationToken>,
    /// The backend has been told an outcome; the owner's own word is not passed on.
    settled_early: bool,
    listeners: Vec<Listener>,
}

/// Builds an [`Origin`].
#[derive(Debug)]
pub struct OriginBuilder {
    backend: &'static str,
    topic: String,
    group: Option<String>,
}

impl Origin {
    /// Starts an origin for a subscription to `topic` made by `backend`, the backend's short name.
    pub fn builder(backend: &'static str, topic: impl Into<String>) -> OriginBuilder {
        OriginBuilder { backend, topic: topic.into(), group: None }
    }

    /// The backend's short name: `memory`, `sql`, `kafka`.
    pub fn backend(&self) -> &'static str {
        self.0.backend
    }

    /// The topic subscribed to.
    pub fn topic(&self) -> &str {
        &self.0.topic
    }

    /// The consumer group, if the subscription has one.
    pub fn group(&self) -> Option<&str> {
        self.0.group.as_deref()
    }

    /// How many deliveries were dropped without being settled.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// What it was built with, if that is an `S`: how a backend knows its own deliveries again.
    pub fn settler<S: Settle>(&self) -> Option<&S> {
        let settle: &dyn Any = &*self.0.settle;
        settle.downcast_ref()
    }

    /// Tells whoever watches these deliveries that the subscription does not own them any more; for
    /// backends, on a lost lease or a revoked partition. What is settled under them afterwards still
    /// reaches [`Settle::settle`], which ignores it.
    pub fn revoke(&self, lost: impl Fn(Token) -> bool) {
        if self.0.notes.is_empty() {
            return;
        }
        self.0.notes.change(|notes| {
            for (_, note) in notes.iter_mut().filter(|(token, _)| lost(**token)) {
                if let Some(watch) = note.watch.take() {
                    watch.cancel();
                }
            }
        });
    }

    /// The same for all deliveries, those made before and those still to come: the subscription is over.
    /// Who asks afterwards is told, too.
    pub fn revoke_all(&self) {
        self.0.revoked.store(true, Ordering::Release);
        // Always under the lock, in whose order a watch is made before or after.
        self.0.notes.change(|notes| {
            for watch in notes.values_mut().filter_map(|note| note.watch.take()) {
                watch.cancel();
            }
        });
    }

    pub(super) fn watch(&self, token: Token) -> CancellationToken {
        let watch = self
            .0
            .notes
            .change(|notes| notes.entry(token).or_default().watch.get_or_insert_default().clone());
        // Looked at after the note was made: whoever revokes either sees the note or is seen here.
        if self.0.revoked.load(Ordering::Acquire) {
            watch.cancel();
        }
        watch
    }

    #[inline]
    pub(super) fn settle(&self, token: Token, outcome: Outcome, receipt: Option<Receipt>) {
        if self.0.notes.is_empty() {
            self.0.settle.settle(token, outcome, receipt);
        } else {
            self.settle_noted(token, outcome, receipt);
        }
    }

    #[cold]
    fn settle_noted(&self, token: Token, outcome: Outcome, receipt: Option<Receipt>) {
        let note = self.0.notes.change(|notes| notes.remove(&token)).unwrap_or_default();
        for listener in note.listeners {
            listener(&outcome);
        }
        if !note.settled_early {
            self.0.settle.settle(token, outcome, receipt);
        } else if let Some(receipt) = receipt {
            receipt.complete(Ok(()));
        }
        if let Some(watch) = note.watch {
            watch.cancel();
        }
    }

    /// Settles ahead of the owner of the [`Settlement`](super::Settlement), whose own word is then
    /// not passed on.
    pub(super) fn settle_early(&self, token: Token, outcome: Outcome) {
        let first = self.0.notes.change(|notes| {
            let note = notes.entry(token).or_default();
            !std::mem::replace(&mut note.settled_early, true)
        });
        if first {
            self.0.settle.settle(token, outcome, None);
        }
    }

    pub(super) fn on_settled(&self, token: Token, listener: Listener) {
        self.0.notes.change(|notes| notes.entry(token).or_default().listeners.push(listener));
    }

    pub(super) fn forget_listeners(&self, token: Token) {
        if self.0.notes.is_empty() {
            return;
        }
        // Dropped outside of the lock: a listener may hold anything.
        let forgotten = self
            .0
            .notes
            .change(|notes| notes.get_mut(&token).map(|note| std::mem::take(&mut note.listeners)));
        drop(forgotten);
    }

    pub(super) fn count_dropped(&self) {
        self.0.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

impl OriginBuilder {
    /// Sets the consumer group.
    #[must_use]
    pub fn group(mut self, group: Option<impl Into<String>>) -> Self {
        self.group = group.map(Into::into);
        self
    }

    /// Finishes, with the backend's way to settle.
    pub fn build(self, settle: impl Settle) -> Origin {
        Origin(Arc::new(Shared {
            backend: self.backend,
            topic: self.topic,
            group: self.group,
            dropped: AtomicU64::new(0),
            notes: Notes::default(),
            revoked: AtomicBool::new(false),
            settle: Box::new(settle),
        }))
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin")
            .field("backend", &self.backend())
            .field("topic", &self.topic())
            .field("group", &self.group())
            .finish_non_exhaustive()
    }
}

impl Notes {
    fn is_empty(&self) -> bool {
        self.len.load(Ordering::Acquire) == 0
    }

    fn change<R>(&self, change: impl FnOnce(&mut HashMap<Token, Note>) -> R) -> R {
        let mut by_token = self.by_token.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut by_token);
        self.len.store(by_token.len(), Ordering::Release);
        result
    }
}
