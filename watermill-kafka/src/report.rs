//! The broker's word on each message of a call, awaited by the call as a whole.

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
};

use futures::task::AtomicWaker;
use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    error::KafkaError,
    producer::{DeliveryResult, NoCustomPartitioner, ProducerContext},
};

use crate::log;

/// A call to publish, whose caller is woken once, by the last report.
pub(crate) struct Call {
    outstanding: AtomicUsize,
    failed: Mutex<Vec<(usize, KafkaError)>>,
    caller: AtomicWaker,
}

/// What a message on its way carries along: the call that waits for its report. librdkafka keeps a
/// pointer to it, so that it is a box.
pub(crate) struct Report {
    call: Arc<Call>,
    /// The message's position in the call.
    at: usize,
}

impl Call {
    /// A call of so many messages.
    pub(crate) fn new(messages: usize) -> Arc<Self> {
        let (outstanding, failed) = (AtomicUsize::new(messages), Mutex::default());
        Arc::new(Self { outstanding, failed, caller: AtomicWaker::new() })
    }

    /// There are so many messages more.
    pub(crate) fn expect(&self, messages: usize) {
        self.outstanding.fetch_add(messages, Ordering::AcqRel);
    }

    /// The report of the message at this position.
    pub(crate) fn report(self: &Arc<Self>, at: usize) -> Box<Report> {
        Box::new(Report { call: self.clone(), at })
    }

    /// Waits until all are in: the positions that were not accepted, in ascending order, and why.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost by dropping it; waiting again goes on.
    pub(crate) async fn failed(&self) -> Vec<(usize, KafkaError)> {
        self.until(Self::is_over).await;
        self.failed_so_far()
    }

    /// Waits until all are in, or until the first that says no: whether none does.
    ///
    /// # Cancel safety
    ///
    /// As [`failed`](Self::failed).
    pub(crate) async fn accepted(&self) -> bool {
        self.until(|call| call.is_over() || !call.lock().is_empty()).await;
        self.lock().is_empty()
    }

    async fn until(&self, done: impl Fn(&Self) -> bool) {
        poll_fn(|context| {
            self.caller.register(context.waker());
            // After the waker is registered: the last report may come in between.
            if done(self) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn is_over(&self) -> bool {
        self.outstanding.load(Ordering::Acquire) == 0
    }

    /// The positions that were not accepted as far as is known, in ascending order, and why.
    pub(crate) fn failed_so_far(&self) -> Vec<(usize, KafkaError)> {
        let mut failed = std::mem::take(&mut *self.lock());
        failed.sort_unstable_by_key(|(at, _)| *at);
        failed
    }

    /// Messages that were not even queued.
    pub(crate) fn fail(&self, positions: impl ExactSizeIterator<Item = usize>, error: &KafkaError) {
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
pub(crate) struct Reports;

impl ProducerContext<NoCustomPartitioner> for Reports {
    type DeliveryOpaque = Box<Report>;

    fn delivery(&self, result: &DeliveryResult<'_>, report: Box<Report>) {
        match result {
            Ok(_) => report.call.settle(1),
            Err((error, _)) => report.call.fail(std::iter::once(report.at), error),
        }
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log::line(level, facility, message);
    }

    /// For the log: what concerns a message is in its report too.
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "trouble with Kafka");
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
        call.settle(1);
        assert!(call.failed().now_or_never().is_none());
        assert_eq!(call.accepted().now_or_never(), Some(false));
        call.fail(std::iter::once(0), &timed_out);
        let failed = call.failed().now_or_never().expect("all reports are in");
        assert_eq!(failed.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 2]);
    }
}
