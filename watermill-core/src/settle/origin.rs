//! [`Origin`]: what all deliveries of one subscription share.

use std::{
    any::Any,
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio_util::sync::CancellationToken;

use super::outcome::{Outcome, Receipt, Settle, Token};

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
    settle: Box<dyn Settle>,
}

/// Told the outcome of one delivery. It never blocks and never panics, as [`Settle::settle`].
type Listener = Box<dyn FnOnce(&Outcome) + Send>;

/// What is noted about a few outstanding deliveries. Nearly always there are none, so looking for one
/// must cost one load.
#[derive(Default)]
struct Notes {
    /// Zero when nothing is noted and nothing revoked. Raised before anything is noted, so that whoever
    /// settles meanwhile looks into the table.
    noted: AtomicUsize,
    by_token: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    notes: HashMap<Token, Note>,
    /// The subscription is over.
    all_revoked: bool,
}

#[derive(Default)]
struct Note {
    /// Cancelled when the delivery is settled or lost.
    watch: Option<CancellationToken>,
    /// The subscription does not own the delivery any more.
    lost: bool,
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

    /// Says that the subscription does not own some outstanding deliveries any more; for backends, on a lost
    /// lease or a revoked partition. Whoever watches them is told, and whoever
    /// [asks](super::DeliveryInfo::is_lost) afterwards. What they are settled with still reaches
    /// [`Settle::settle`], which ignores it.
    ///
    /// `lost` returns their tokens, and takes them out of what is outstanding. It is called once, under a
    /// lock of the origin's: it may take the lock under which [`Settle::settle`] works, and must not settle.
    pub fn revoke<T: IntoIterator<Item = Token>>(&self, lost: impl FnOnce() -> T) {
        let watches: Vec<_> = self.0.notes.change(|table| {
            let lose = |token| {
                let note = table.notes.entry(token).or_default();
                note.lost = true;
                note.watch.take()
            };
            lost().into_iter().filter_map(lose).collect()
        });
        watches.iter().for_each(CancellationToken::cancel);
    }

    /// The same for all deliveries, those made before and those still to come: the subscription is over.
    pub fn revoke_all(&self) {
        let watches: Vec<_> = self.0.notes.change(|table| {
            table.all_revoked = true;
            table.notes.values_mut().filter_map(|note| note.watch.take()).collect()
        });
        watches.iter().for_each(CancellationToken::cancel);
    }

    /// Whether the subscription has lost the delivery.
    #[inline]
    pub(super) fn is_lost(&self, token: &Token) -> bool {
        !self.0.notes.is_empty() && self.is_noted_as_lost(token)
    }

    #[cold]
    fn is_noted_as_lost(&self, token: &Token) -> bool {
        self.0.notes.change(|table| table.is_lost(*token))
    }

    pub(super) fn watch(&self, token: Token) -> CancellationToken {
        let (watch, lost) = self.0.notes.change(|table| {
            let lost = table.is_lost(token);
            (table.notes.entry(token).or_default().watch.get_or_insert_default().clone(), lost)
        });
        if lost {
            watch.cancel();
        }
        watch
    }

    #[inline]
    pub(super) fn settle(&self, token: &Token, outcome: Outcome, receipt: Option<Receipt>) {
        if !self.0.notes.is_empty() {
            return self.settle_noted(*token, outcome, receipt);
        }
        self.0.settle.settle(*token, outcome, receipt);
        // Revoked in between, it was noted, and nobody else would ever forget the note.
        if !self.0.notes.is_empty() {
            self.forget(*token);
        }
    }

    #[cold]
    fn forget(&self, token: Token) {
        self.0.notes.change(|table| table.notes.remove(&token));
    }

    #[cold]
    fn settle_noted(&self, token: Token, outcome: Outcome, receipt: Option<Receipt>) {
        let note = self.0.notes.change(|table| table.notes.remove(&token)).unwrap_or_default();
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
        if !note.lost {
            // As above.
            self.forget(token);
        }
    }

    #[inline]
    pub(super) fn handled(&self, token: Token) {
        self.0.settle.handled(token);
    }

    /// Settles ahead of the owner of the [`Settlement`](super::Settlement), whose own word is then
    /// not passed on.
    pub(super) fn settle_early(&self, token: Token, outcome: Outcome) {
        let first = self.0.notes.change(|table| {
            let note = table.notes.entry(token).or_default();
            !std::mem::replace(&mut note.settled_early, true)
        });
        if first {
            self.0.settle.settle(token, outcome, None);
        }
    }

    pub(super) fn on_settled(&self, token: Token, listener: Listener) {
        self.0.notes.change(|table| table.notes.entry(token).or_default().listeners.push(listener));
    }

    pub(super) fn forget_listeners(&self, token: Token) {
        if self.0.notes.is_empty() {
            return;
        }
        // Dropped outside of the lock: a listener may hold anything.
        let forgotten = self
            .0
            .notes
            .change(|table| table.notes.get_mut(&token).map(|note| std::mem::take(&mut note.listeners)));
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
    #[inline]
    fn is_empty(&self) -> bool {
        self.noted.load(Ordering::Acquire) == 0
    }

    fn change<R>(&self, change: impl FnOnce(&mut Table) -> R) -> R {
        let mut table = self.by_token.lock().unwrap_or_else(PoisonError::into_inner);
        self.noted.store(usize::MAX, Ordering::Release);
        let result = change(&mut table);
        self.noted.store(table.notes.len() + usize::from(table.all_revoked), Ordering::Release);
        result
    }
}

impl Table {
    fn is_lost(&self, token: Token) -> bool {
        self.all_revoked || self.notes.get(&token).is_some_and(|note| note.lost)
    }
}
