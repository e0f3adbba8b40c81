//! The vectors that publishers take: how one for a single message costs no allocation.

use std::cell::Cell;

use super::Message;

thread_local! {
    /// What the last call on this thread left: where a handler and a publisher of this process share a thread, an
    /// output then takes no allocation, which would be 130 instructions.
    static SPARE: Cell<Vec<Message>> = const { Cell::new(Vec::new()) };
}

/// How much room the vector has at the most that is kept: two kilobytes.
const SPARE_MAX: usize = 64;

/// A vector of one message.
#[inline]
pub(crate) fn of(message: Message) -> Vec<Message> {
    let mut messages = SPARE.try_with(Cell::take).unwrap_or_default();
    messages.push(message);
    messages
}

/// Leaves the memory of messages that were published to the next call, if the vector is empty by now.
#[inline]
pub(crate) fn reuse(messages: Vec<Message>) {
    if !messages.is_empty() || messages.capacity() > SPARE_MAX {
        return;
    }
    let _ = SPARE.try_with(|spare| {
        let replaced = spare.replace(messages);
        if replaced.capacity() == 0 {
            // It owns nothing, and to see that takes longer where it is dropped.
            std::mem::forget(replaced);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_is_used_again_unless_it_is_large() {
        let messages = of(Message::new("x"));
        let place = messages.as_ptr();
        reuse(messages);
        let again = of(Message::new("y"));
        assert_eq!((again.as_ptr(), again.len()), (place, 1));
        reuse(Vec::with_capacity(SPARE_MAX + 1));
        assert!(SPARE.take().capacity() <= SPARE_MAX);
    }
}
