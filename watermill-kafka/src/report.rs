//! The broker's word on each message of a call, awaited by the call as a whole.

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures::task::AtomicWaker;
use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    error::KafkaError,
    message::OwnedMessage,
    producer::{DeliveryResult, NoCustomPartitioner, ProducerContext},
    types::RDKafkaErrorCode as Code,
};

use crate::{error, log::Log};

/// A call to publish, whose caller is woken once, by the last report; or one message's part in it.
///
/// librdkafka keeps a pointer to one for each message on its way. A call with one message is its own part: one
/// piece of memory for both, which goes back to the thread that it came from.
pub(crate) struct Call(Role);

enum Role {
    Whole(Whole),
    Part {
        of: Arc<Call>,
        /// The message's position in the call.
        at: usize,
    },
}

struct Whole {
    /// Whether there is one message, and never more.
    single: bool,
    outstanding: AtomicUsize,
    failed: Mutex<Vec<(usize, KafkaError)>>,
    caller: AtomicWaker,
    /// Its place among all calls of its producer.
    number: AtomicU64,
}

impl Call {
    /// A call of so many messages.
    pub(crate) fn new(messages: usize) -> Arc<Self> {
        let (outstanding, failed) = (AtomicUsize::new(messages), Mutex::default());
        let (caller, number) = (AtomicWaker::new(), AtomicU64::new(0));
        let whole = Whole { single: messages == 1, outstanding, failed, caller, number };
        Arc::new(Self(Role::Whole(whole)))
    }

    /// A call whose messages are not known yet; see [`expect`](Self::expect).
    pub(crate) fn open() -> Arc<Self> {
        Self::new(0)
    }

    /// Its first message is about to be queued; so many calls were before it.
    pub(crate) fn begin(&self, number: u64) {
        self.whole().number.store(number, Ordering::Relaxed);
    }

    /// This message was not accepted.
    pub(crate) fn fail_own(&self, error: KafkaError) {
        self.whole().fail(std::iter::once(self.at()), &error);
    }

    /// There are so many messages more.
    pub(crate) fn expect(&self, messages: usize) {
        self.whole().outstanding.fetch_add(messages, Ordering::AcqRel);
    }

    /// The part of the message at this position.
    pub(crate) fn report(self: &Arc<Self>, at: usize) -> Arc<Self> {
        match &self.0 {
            Role::Whole(Whole { single: true, .. }) => self.clone(),
            _ => Arc::new(Self(Role::Part { of: self.clone(), at })),
        }
    }

    /// Ready when all are in: the positions that were not accepted, in ascending order, and why.
    pub(crate) fn poll_failed(&self, cx: &Context<'_>) -> Poll<Vec<(usize, KafkaError)>> {
        let whole = self.whole();
        whole.poll_until(Whole::is_over, cx).map(|()| self.failed_so_far())
    }

    /// Whether any has said no so far.
    pub(crate) fn has_failed(&self) -> bool {
        !self.whole().lock().is_empty()
    }

    /// Waits until all are in, or until the first that says no: whether none does.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost by dropping it; waiting again goes on.
    pub(crate) async fn accepted(&self) -> bool {
        let whole = self.whole();
        let done = |whole: &Whole| whole.is_over() || !whole.lock().is_empty();
        poll_fn(|cx| whole.poll_until(done, cx)).await;
        whole.lock().is_empty()
    }

    /// The positions that were not accepted as far as is known, in ascending order, and why.
    pub(crate) fn failed_so_far(&self) -> Vec<(usize, KafkaError)> {
        let mut failed = std::mem::take(&mut *self.whole().lock());
        failed.sort_unstable_by_key(|(at, _)| *at);
        failed
    }

    /// Messages that were not even queued.
    pub(crate) fn fail(&self, positions: impl ExactSizeIterator<Item = usize>, error: &KafkaError) {
        self.whole().fail(positions, error);
    }

    fn whole(&self) -> &Whole {
        match &self.0 {
            Role::Whole(whole) => whole,
            Role::Part { of, .. } => of.whole(),
        }
    }

    fn at(&self) -> usize {
        match self.0 {
            Role::Whole(_) => 0,
            Role::Part { at, .. } => at,
        }
    }
}

impl Whole {
    fn poll_until(&self, done: impl Fn(&Self) -> bool, cx: &Context<'_>) -> Poll<()> {
        self.caller.register(cx.waker());
        // After the waker is registered: the last report may come in between.
        if done(self) { Poll::Ready(()) } else { Poll::Pending }
    }

    fn is_over(&self) -> bool {
        self.outstanding.load(Ordering::Acquire) == 0
    }

    fn fail(&self, positions: impl ExactSizeIterator<Item = usize>, error: &KafkaError) {
        let count = positions.len();
        let mut failed = self.lock();
        failed.extend(positions.map(|at| (at, error.clone())));
        drop(failed);
        self.settle(count);
        // Some callers wait for no more than this.
        self.caller.wake();
    }

    fn settle(&self, count: usize) {
        if self.outstanding.fetch_sub(count, Ordering::AcqRel) == count {
            self.caller.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(usize, KafkaError)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a producer does with what librdkafka tells it.
#[derive(Default)]
pub(crate) struct Reports {
    /// Where messages are kept that the next client may send, if they are.
    kept: Option<Kept>,
    log: Log,
    /// Whether no broker was there when something was last heard.
    away: AtomicBool,
}

#[derive(Default)]
struct Kept {
    unsent: Mutex<Vec<Unsent>>,
    on_unsent: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// A message that its client could not send.
pub(crate) struct Unsent {
    pub(crate) record: OwnedMessage,
    pub(crate) call: Arc<Call>,
    pub(crate) error: KafkaError,
}

impl Unsent {
    /// Orders messages as they were queued.
    pub(crate) fn place(&self) -> (u64, usize) {
        (self.call.whole().number.load(Ordering::Relaxed), self.call.at())
    }
}

impl Reports {
    /// For a client whose successor may send what it has not sent.
    pub(crate) fn keeping() -> Self {
        Self { kept: Some(Kept::default()), ..Self::default() }
    }

    /// Calls `told`, from a thread of librdkafka, when there is something that could not be sent.
    pub(crate) fn on_unsent(&self, told: impl Fn() + Send + Sync + 'static) {
        if let Some(kept) = &self.kept {
            let _ = kept.on_unsent.set(Box::new(told));
        }
    }

    /// Whether no broker is there, as far as is known.
    pub(crate) fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    pub(crate) fn take_unsent(&self) -> Vec<Unsent> {
        self.kept.as_ref().map(|kept| std::mem::take(&mut *kept.lock())).unwrap_or_default()
    }
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, Vec<Unsent>> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, unsent: Unsent) {
        self.lock().push(unsent);
        self.tell();
    }

    fn tell(&self) {
        if let Some(told) = self.on_unsent.get() {
            told();
        }
    }
}

impl ProducerContext<NoCustomPartitioner> for Reports {
    type DeliveryOpaque = Arc<Call>;

    fn delivery(&self, result: &DeliveryResult<'_>, report: Arc<Call>) {
        match result {
            Ok(_) => {
                report.whole().settle(1);
                if self.is_away() {
                    self.away.store(false, Ordering::Relaxed);
                }
            }
            Err((error, record)) => match &self.kept {
                // A batch was refused, or the client has failed for good: no message is blamed for it yet.
                Some(kept) if error::is_too_large(error) || error::is_of_dead_client(error) => {
                    kept.keep(Unsent { record: record.detach(), call: report, error: error.clone() });
                }
                _ => report.fail_own(error.clone()),
            },
        }
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.line(level, facility, message);
    }

    /// Nobody reads those of a producer, and the client would write all of them at `INFO`.
    fn stats_raw(&self, _: &[u8]) {}

    /// For the log: what concerns a message is in its report too.
    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(Code::AllBrokersDown) => self.away.store(true, Ordering::Relaxed),
            // It says nothing of what it has queued until that is asked for.
            Some(Code::Fatal) => self.kept.iter().for_each(Kept::tell),
            _ => {}
        }
        self.log.error(&error, reason);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use rdkafka::types::RDKafkaErrorCode;

    use super::*;

    #[test]
    fn a_call_is_over_when_its_last_report_is_in() {
        let call = Call::new(3);
        let timed_out = KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut);
        call.fail(std::iter::once(2), &timed_out);
        call.whole().settle(1);
        let failed = || poll_fn(|cx| call.poll_failed(cx)).now_or_never();
        assert!(failed().is_none());
        assert_eq!(call.accepted().now_or_never(), Some(false));
        call.fail(std::iter::once(0), &timed_out);
        let failed = failed().expect("all reports are in");
        assert_eq!(failed.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 2]);
    }
}
