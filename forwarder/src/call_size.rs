//! [`CallSize`]: how many messages the next call may have.

use std::time::Duration;

use tokio::time::Instant;

/// For how many times as long as a call may take it is remembered that one was too much: finding out again takes a call's whole
/// time, so that no more than a tenth goes to that.
const REMEMBERED: u32 = 10;

/// Fewer after a call that was too much, or while a message is searched that is at fault; then more again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallSize {
    next: usize,
    max: usize,
    call_timeout: Duration,
    too_many: Option<TooMany>,
}

/// So many had no answer in time.
#[derive(Clone, Copy, Debug)]
struct TooMany {
    size: usize,
    /// Whether fewer were accepted since: then it was not the destination that was away.
    fewer_pass: bool,
    /// It was so twice, with fewer accepted in between: until when no more than half are tried.
    until: Option<Instant>,
}

impl CallSize {
    pub(crate) fn new(max: usize, call_timeout: Duration) -> Self {
        Self { next: max, max, call_timeout, too_many: None }
    }

    /// The most messages of the next call.
    pub(crate) fn get(&self) -> usize {
        self.next
    }

    /// One of `size` messages is at fault, and the next call shall say in which half it is.
    pub(crate) fn narrow(&mut self, size: usize) {
        self.next = half(size);
    }

    /// A call of `size` messages had no answer in time. Was it too much, or is the destination away? Fewer are tried, and when they
    /// have passed and as many again have not, it was too much.
    pub(crate) fn timed_out(&mut self, size: usize) {
        let is_certain = self.too_many.is_some_and(|known| known.fewer_pass && size >= known.size);
        let until = is_certain.then(|| Instant::now() + self.call_timeout.saturating_mul(REMEMBERED));
        self.too_many = Some(TooMany { size, fewer_pass: false, until });
        self.next = half(size);
    }

    /// A call of `size` messages was accepted.
    pub(crate) fn accepted(&mut self, size: usize) {
        self.too_many = self.too_many.filter(|known| size < known.size);
        let mut most = self.max;
        if let Some(known) = &mut self.too_many {
            known.fewer_pass = true;
            if known.until.is_some_and(|until| Instant::now() < until) {
                most = half(known.size);
            }
        }
        self.next = self.next.saturating_mul(2).min(most);
    }
}

fn half(size: usize) -> usize {
    (size / 2).max(1)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(150);

    /// Calls a destination that takes at most so many in time, and returns how many calls were too much.
    async fn call(size: &mut CallSize, takes: usize, calls: usize) -> usize {
        let mut late = 0;
        for _ in 0..calls {
            match size.get() {
                few if few <= takes => size.accepted(few),
                many => {
                    advance(TIMEOUT).await;
                    size.timed_out(many);
                    late += 1;
                }
            }
        }
        late
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_too_much_twice_is_not_tried_again_for_a_while() {
        let mut size = CallSize::new(500, TIMEOUT);
        assert_eq!(call(&mut size, 300, 1_000).await, 2);
        assert_eq!(size.get(), 250);
    }

    #[tokio::test(start_paused = true)]
    async fn after_that_while_it_is_tried_once_more() {
        let mut size = CallSize::new(500, TIMEOUT);
        call(&mut size, 300, 10).await;
        advance(TIMEOUT * REMEMBERED).await;
        assert_eq!(call(&mut size, 300, 1_000).await, 1);
        advance(TIMEOUT * REMEMBERED).await;
        assert_eq!(call(&mut size, 500, 1_000).await, 0);
        assert_eq!(size.get(), 500);
    }

    #[tokio::test(start_paused = true)]
    async fn a_destination_that_was_away_is_called_as_before_when_it_is_back() {
        let mut size = CallSize::new(500, TIMEOUT);
        assert_eq!(call(&mut size, 0, 20).await, 20);
        assert_eq!(size.get(), 1);
        assert_eq!(call(&mut size, 500, 20).await, 0);
        assert_eq!(size.get(), 500);
    }

    #[tokio::test(start_paused = true)]
    async fn where_even_half_is_too_much_less_is_found() {
        let mut size = CallSize::new(500, TIMEOUT);
        assert_eq!(call(&mut size, 40, 1_000).await, 5);
        assert_eq!(size.get(), 31);
    }
}
