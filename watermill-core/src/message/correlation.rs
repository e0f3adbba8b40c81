//! The correlation ids that a new message takes over from the one that is being handled.
//!
//! The [`Correlation`](crate::middleware::Correlation) layer sets them around every poll of a handler:
//! that is how they reach code which is not handed the message.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use super::{id::MessageId, metadata::Metadata};
use crate::metadata_keys;

thread_local! {
    /// Whether there are ids: most messages are made where there are none, and this is all they look at.
    static CORRELATES: Cell<bool> = const { Cell::new(false) };
    static CORRELATION: RefCell<Option<CorrelationIds>> = const { RefCell::new(None) };
}

/// The ids that what is published while handling a message takes over. Message ids are text that
/// needs no allocation of its own, as a rule.
#[derive(Clone, Debug)]
pub(crate) struct CorrelationIds {
    pub(crate) correlation: MessageId,
    pub(crate) causation: MessageId,
}

impl CorrelationIds {
    /// Sets the ids where there are none yet. An empty id is none, neither given nor present.
    pub(crate) fn apply(&self, metadata: &mut Metadata) {
        let ids = [
            (metadata_keys::CORRELATION_ID, &self.correlation),
            (metadata_keys::CAUSATION_ID, &self.causation),
        ];
        for (name, id) in ids {
            if !id.is_empty() && metadata.get(name).is_none_or(str::is_empty) {
                metadata.insert(name, id.as_str());
            }
        }
    }
}

/// What a new message has of what is being handled, if there is something.
#[inline]
pub(super) fn metadata() -> Option<Metadata> {
    if CORRELATES.get() { correlated() } else { None }
}

#[cold]
fn correlated() -> Option<Metadata> {
    let mut metadata = Metadata::new();
    CORRELATION.with_borrow(|ids| {
        if let Some(ids) = ids {
            ids.apply(&mut metadata);
        }
    });
    (!metadata.is_empty()).then_some(metadata)
}

pin_project! {
    /// A future whose new messages take over `ids`.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Correlated<F> {
        #[pin]
        inner: F,
        ids: Option<CorrelationIds>,
    }
}

impl<F> Correlated<F> {
    /// Makes the future with `call`, whose new messages take over `ids` as well.
    pub(crate) fn new(ids: Option<CorrelationIds>, call: impl FnOnce() -> F) -> Self {
        let mut ids = ids;
        let inner = {
            let _entered = Entered::new(&mut ids);
            call()
        };
        Self { inner, ids }
    }

    /// The ids, between two polls.
    pub(crate) fn ids(&self) -> Option<&CorrelationIds> {
        self.ids.as_ref()
    }
}

/// Swaps the ids of this thread while it lives: they are back also when the handler panics.
struct Entered<'a>(&'a mut Option<CorrelationIds>);

impl<'a> Entered<'a> {
    fn new(ids: &'a mut Option<CorrelationIds>) -> Self {
        swap(ids);
        Self(ids)
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        swap(self.0);
    }
}

fn swap(ids: &mut Option<CorrelationIds>) {
    CORRELATION.with_borrow_mut(|current| {
        std::mem::swap(current, ids);
        CORRELATES.set(current.is_some());
    });
}

impl<F: Future> Future for Correlated<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _entered = Entered::new(this.ids);
        this.inner.poll(cx)
    }
}
