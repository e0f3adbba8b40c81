//! [`Content`]: what of a message reaches the wire, shared by its copies.

use std::{
    cell::RefCell,
    ops::Deref,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;

use super::{
    id::MessageId,
    metadata::Metadata,
    record::{Record, Unread},
};

/// What reaches the wire.
#[derive(Clone)]
pub(super) struct Content {
    /// Made when it is first looked at: within one process it often never is, and making it is a
    /// tenth of the way from a publisher to a handler.
    pub(super) id: OnceLock<MessageId>,
    pub(super) payload: Bytes,
    /// Apart, so that a message without a key and metadata is of a size that allocators are quick with
    /// (glibc keeps chunks of up to 128 bytes in lists that it neither splits nor merges).
    pub(super) headers: Slot,
}

/// Key and metadata, or where they can be read.
#[derive(Clone)]
pub(super) enum Slot {
    Known(Option<Box<Headers>>),
    /// The id is read from there as well.
    Unread(Arc<Unread<dyn Record>>),
}

#[derive(Clone, Default)]
pub(super) struct Headers {
    pub(super) key: Option<Bytes>,
    pub(super) metadata: Metadata,
}

/// A share of a content. The last one leaves its memory to the next message that is made on its thread: a process
/// that hands messages on, or that publishes and handles on one thread, allocates none for them.
#[derive(Clone)]
pub(super) struct SharedContent(Arc<Content>);

/// How many contents without a message a thread keeps: some 30 kB. What is more is freed.
const SPARE_MAX: usize = 256;

thread_local! {
    static SPARE: RefCell<Vec<Arc<Content>>> = const { RefCell::new(Vec::new()) };
}

impl SharedContent {
    /// A content without anything else, and whatever `fill` adds to it.
    #[inline]
    pub(super) fn new(payload: Bytes, fill: impl FnOnce(&mut Content)) -> Self {
        let spare = SPARE.try_with(|spare| spare.borrow_mut().pop()).ok().flatten();
        if let Some(mut spare) = spare
            && let Some(content) = Arc::get_mut(&mut spare)
        {
            // What was cleared owns nothing: to drop it would be a call through a table.
            std::mem::forget(std::mem::replace(&mut content.payload, payload));
            fill(content);
            return Self(spare);
        }
        let mut content = Content { id: OnceLock::new(), payload, headers: Slot::Known(None) };
        fill(&mut content);
        Self(Arc::new(content))
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        std::ptr::eq(&raw const **self, &raw const **other)
    }

    /// The content, to change; a copy of its own, if others share it.
    pub(super) fn make_mut(&mut self) -> &mut Content {
        if Arc::get_mut(&mut self.0).is_none() {
            // Copies must agree on the id, so it is made before they part.
            self.id();
        }
        Arc::make_mut(&mut self.0)
    }

    /// Headers and payload, without a copy if nobody shares them.
    pub(super) fn into_parts(mut self) -> (Headers, Bytes) {
        let (headers, payload) = match Arc::get_mut(&mut self.0) {
            Some(unique) => (unique.headers.take(), std::mem::take(&mut unique.payload)),
            None => (self.headers.clone(), self.payload.clone()),
        };
        let headers = match headers {
            Slot::Known(headers) => headers.map_or_else(Headers::default, |headers| *headers),
            Slot::Unread(record) => record.read().headers.clone(),
        };
        (headers, payload)
    }
}

impl Deref for SharedContent {
    type Target = Content;

    #[inline]
    fn deref(&self) -> &Content {
        &self.0
    }
}

impl Drop for SharedContent {
    #[inline]
    fn drop(&mut self) {
        // One look, wherever it is not the last share.
        if Arc::strong_count(&self.0) == 1 {
            keep_spare(&mut self.0);
        }
    }
}

/// Clears what may be the last share of a content, and keeps its memory if it is.
#[inline(never)]
fn keep_spare(last: &mut Arc<Content>) {
    let Some(content) = Arc::get_mut(last) else { return };
    // Now, and not when the memory is used again: a payload may be all there is of something large.
    content.clear();
    let _ = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        if spare.len() < SPARE_MAX {
            // Unique again as soon as the share that is being dropped is gone.
            spare.push(last.clone());
        }
    });
}

impl Content {
    pub(super) fn id(&self) -> &MessageId {
        match &self.headers {
            Slot::Known(_) => self.id.get_or_init(MessageId::new),
            Slot::Unread(record) => &record.read().id,
        }
    }

    pub(super) fn headers(&self) -> Option<&Headers> {
        match &self.headers {
            Slot::Known(headers) => headers.as_deref(),
            Slot::Unread(record) => Some(&record.read().headers),
        }
    }

    pub(super) fn headers_mut(&mut self) -> &mut Headers {
        if let Slot::Unread(record) = &self.headers {
            let read = record.read();
            self.id = OnceLock::from(read.id.clone());
            self.headers = Slot::Known(Some(Box::new(read.headers.clone())));
        }
        match &mut self.headers {
            Slot::Known(headers) => headers.get_or_insert_default(),
            Slot::Unread(_) => unreachable!("what was unread has just been read"),
        }
    }

    fn clear(&mut self) {
        self.payload = Bytes::new();
        if self.id.get().is_some() {
            self.id.take();
        }
        if !matches!(self.headers, Slot::Known(None)) {
            self.headers.take();
        }
    }
}

impl Slot {
    fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Known(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(payload: Bytes) -> SharedContent {
        SharedContent::new(payload, |_| ())
    }

    #[test]
    fn the_memory_of_a_message_is_used_again_and_nothing_of_it_is_left() {
        let first = SharedContent::new(Bytes::from_static(b"first"), |content| {
            content.id = OnceLock::from(MessageId::from("1"));
            content.headers_mut().key = Some(Bytes::from_static(b"k"));
        });
        let place = &raw const *first;
        let copy = first.clone();
        drop(first);
        assert_eq!(copy.id(), "1", "not while somebody has it");
        drop(copy);
        let second = content(Bytes::from_static(b"second"));
        assert!(std::ptr::eq(place, &raw const *second));
        assert_ne!(second.id(), "1");
        assert!(second.headers().is_none());
        assert_eq!(second.payload, "second");
    }

    #[test]
    fn no_more_is_kept_than_the_bound() {
        let many: Vec<_> = (0..2 * SPARE_MAX).map(|_| content(Bytes::new())).collect();
        drop(many);
        assert_eq!(SPARE.with_borrow(Vec::len), SPARE_MAX);
    }

    #[test]
    fn a_content_has_a_size_that_allocators_are_quick_with() {
        // With the counts of its `Arc` and the allocator's own word.
        let chunk = size_of::<Content>() + 3 * size_of::<usize>();
        assert!(chunk <= 128, "{chunk} bytes");
    }
}
