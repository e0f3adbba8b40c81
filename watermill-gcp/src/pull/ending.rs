//! How a [`Pull`] ends: what is on its way is read, what nobody works on goes back, and what is settled is sent.

use std::time::Duration;

use futures::future::join_all;
use google_cloud_pubsub::subscriber::{ShutdownToken, handler::Handler};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use watermill_core::{backend::Settled, delivery::Outcome};

use super::{Intake, Next, Pull};
use crate::lease::Lease;

/// When reading stops, what is on its way is read until nothing has come for this long. The emulator sends a
/// hundred messages every 50 ms.
const QUIET: Duration = Duration::from_millis(100);

/// And no more than this: the service sends no more than was asked for, but the emulator sends all it has.
const READ_OUT_MAX: Duration = Duration::from_secs(2);
const READ_OUT_MESSAGES_MAX: usize = 10_000;

/// How long the service may take to see that a stream is gone.
const GONE_AFTER: Duration = Duration::from_millis(50);

impl Pull {
    /// Reading has stopped: gives back what was fetched and not handed out, and lets the stream go.
    ///
    /// On a subscription with exactly-once delivery the stream has to stay while messages are out: when the
    /// last of them is acked and the stream is gone, Google's client (1.7) nacks every ack that it has not
    /// sent yet. One more message in hand prevents that: one is kept for it until the end, and the stream
    /// goes.
    pub(super) async fn stop(&mut self) {
        if !matches!(self.intake, Intake::Open(_)) {
            self.intake = Intake::Off;
            return;
        }
        self.read_out().await;
        if self.shared.closing().is_cancelled() {
            // What is out goes back too, and before what is fresh.
            return;
        }
        self.returning.clear();
        let needs_one = self.kept.is_none() && self.is_exactly_once();
        self.shared.lock().ledger.give_back_fresh(Instant::now());
        let mut settled = self.take_settled();
        if needs_one && let Some(fresh) = settled.iter_mut().rev().find(|settled| !settled.tried) {
            self.kept = fresh.id.handler.take();
        }
        if !needs_one || self.kept.is_some() {
            self.end_stream().await;
        }
        self.tell(settled);
    }

    /// Ends the stream, and gives the service a moment to notice: what is nacked before it has would come down
    /// this stream once more, and be nobody's until its lease ends.
    async fn end_stream(&mut self) {
        if matches!(std::mem::replace(&mut self.intake, Intake::Off), Intake::Open(_)) {
            sleep(GONE_AFTER).await;
        }
    }

    /// Reads what is on its way already: what the client has not seen when the stream goes is free for others
    /// only when its lease ends. And waits until the acks are sent: the emulator gives to others at once what
    /// it has sent to a stream that goes.
    async fn read_out(&mut self) {
        let began = Instant::now();
        let mut until = (self.heard_at + QUIET).max(self.settling.sent_by());
        let mut read = 0;
        loop {
            let now = Instant::now();
            let reads = read < READ_OUT_MESSAGES_MAX;
            read += 1;
            tokio::select! {
                next = self.intake.next(reads) => match next {
                    Next::Message(native, handler) => {
                        self.take_in(native, handler, now);
                        until = until.max((now + QUIET).min(began + READ_OUT_MAX));
                    }
                    _ => return,
                },
                () = sleep_until(until) => return,
            }
        }
    }

    fn is_exactly_once(&self) -> bool {
        let state = self.shared.lock();
        let is = |lease: &Lease| matches!(lease.handler, Some(Handler::ExactlyOnce(_)));
        state.ledger.in_hand().any(|in_hand| in_hand.outstanding && is(in_hand.id)) || self.settling.len() > 0
    }

    pub(super) async fn finish(&mut self) -> Result<(), String> {
        // The nacks go after the stream, or what they free would come here.
        let is_nack = |settled: &Settled<Lease>| matches!(settled.outcome, Outcome::Nack { .. });
        let (nacks, acks): (Vec<_>, _) = self.take_settled().into_iter().partition(is_nack);
        self.tell(acks);
        if matches!(self.intake, Intake::Open(_)) {
            self.read_out().await;
        }
        let patience = self.config.request_timeout;
        // Before the streams go, see `stop`.
        let confirmed = timeout(patience, self.settling.all()).await;
        let is_open = matches!(self.intake, Intake::Open(_));
        if is_open && nacks.is_empty() && self.shared.lock().ledger.is_empty() {
            // With nothing to be given back the stream can wait for the last acks.
            let _ = timeout(patience, join_all(self.streams.iter().map(ShutdownToken::shutdown))).await;
            self.intake = Intake::Off;
        }
        self.end_stream().await;
        self.shared.give_back(&self.origin);
        self.returning.clear();
        self.tell(nacks);
        let settled = self.take_settled();
        self.tell(settled);
        self.kept = None;
        let recorded = timeout(patience, self.settling.all()).await;
        self.settling.clear();
        let ended = timeout(patience, join_all(self.streams.iter().map(ShutdownToken::shutdown))).await;
        match confirmed.and(recorded).and(ended) {
            Ok(_) => Ok(()),
            Err(_) => Err("Pub/Sub has not answered in time".to_owned()),
        }
    }
}
