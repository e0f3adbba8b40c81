//! The engine: commits a batch with what is known of it and acks it, and takes the next meanwhile.
//!
//! One task runs all of it, so that dropping one future ends all of it. A transaction is sent while the one before is
//! committed. Meanwhile the source records what was published before, and what it delivers is put together for the next, which is as long as that has
//! taken: a backlog makes long transactions, and a message that comes alone is committed at once.

use std::{
    pin::{Pin, pin},
    time::Duration,
};

use bytes::Bytes;
use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use tokio::time::{Instant, sleep, timeout_at};
use watermill_core::{
    error::{PublishError, SettleError, chain},
    fenced::Term,
    router::Phase,
};

use super::{
    FencedForwarder,
    batch::Pending,
    gather::Ahead,
    journal::{Journal, Place},
    waiting::Waiting,
};
use crate::{
    ForwarderError, ForwarderReport, Held,
    call_size::CallSize,
    config::StopDeadlines,
    control::{Run, Snapshot},
    end::End,
    relay::source::Source,
    wait::until,
};

/// Runs a relay from subscribing to the closing of the subscription.
pub(super) async fn run(
    forwarder: &FencedForwarder,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<ForwarderReport, ForwarderError> {
    let shared = &*forwarder.control.shared;
    let _run = Run::start(shared);
    let mut shutdown = pin!(shared.asked_to_stop(shutdown));
    let topic = &*forwarder.config.topic;
    let (config, window) = (&forwarder.config, |ordering| forwarder.config.transaction_window(ordering));
    let opened = Source::open(&*forwarder.subscriber, (config, shared), window, shutdown.as_mut()).await?;
    let Some(mut source) = opened else { return Ok(ForwarderReport::default()) };

    let mut engine = Engine::new(forwarder);
    let end = engine.flow(&mut source, shutdown).await;
    shared.enter(Phase::Draining);
    let stop = engine.stop.unwrap_or_else(|| forwarder.config.stop_deadlines());
    source.stop_intake();
    engine.finish_recording(stop.drained).await;
    shared.update(Snapshot { counts: engine.report.clone(), ..Snapshot::default() });
    // What is in hand goes back before the source is closed.
    drop((engine.ahead, engine.waiting));
    end.into_result(topic, source.close(stop.closed).await, engine.report)
}

/// What became of the acks of a batch.
pub(super) type Recorded = Vec<(Place, Result<(), SettleError>)>;

pub(super) struct Engine<'a> {
    pub(super) forwarder: &'a FencedForwarder,
    pub(super) term: Option<Box<dyn Term>>,
    /// From the first term on.
    pub(super) journal: Option<Journal>,
    /// The last checkpoint that was committed.
    pub(super) checkpoint: Option<Bytes>,
    /// What is to be published next.
    pub(super) ahead: Ahead,
    /// Why the source cannot be read from, once that is known.
    pub(super) unsuitable: Option<End>,
    /// Acks on their way, of what was published, and how many they are.
    pub(super) recording: FuturesUnordered<BoxFuture<'a, Recorded>>,
    pub(super) unrecorded: usize,
    /// What was refused, and is tried again later.
    pub(super) waiting: Waiting,
    /// How many of those are being tried again now.
    pub(super) trying_again: usize,
    /// The most messages of the next commit.
    pub(super) size: CallSize,
    /// How many commits in a row have failed, and why the last one has.
    pub(super) failures: u32,
    pub(super) trouble: Option<(String, Instant)>,
    /// How many commits have succeeded.
    pub(super) commits: u64,
    /// How many messages were refused since the last of them, each for the first time.
    pub(super) refused_in_a_row: u32,
    pub(super) report: ForwarderReport,
    /// Since it was asked to stop.
    pub(super) stop: Option<StopDeadlines>,
}

impl<'a> Engine<'a> {
    fn new(forwarder: &'a FencedForwarder) -> Self {
        Self {
            forwarder,
            term: None,
            journal: None,
            checkpoint: None,
            ahead: Ahead::default(),
            unsuitable: None,
            recording: FuturesUnordered::new(),
            unrecorded: 0,
            waiting: Waiting::default(),
            trying_again: 0,
            size: CallSize::new(forwarder.config.transaction_size(), forwarder.config.call_timeout),
            failures: 0,
            trouble: None,
            commits: 0,
            refused_in_a_row: 0,
            report: ForwarderReport::default(),
            stop: None,
        }
    }

    /// Takes and forwards until something ends it.
    async fn flow<S: Future<Output = ()>>(&mut self, source: &mut Source, mut shutdown: Pin<&mut S>) -> End {
        let mut has_tried_again = false;
        loop {
            self.say_status(0);
            if let Some(end) = self.unsuitable.take() {
                return end;
            }
            // Trying again what waits may take so long that it is due again: what is new has its turn in between, and
            // tells, when it passes, that the destination works.
            if !std::mem::take(&mut has_tried_again) && self.waiting.is_due() {
                let again = self.waiting.take();
                self.trying_again = again.len();
                if let Err(end) = self.forward(again, source, shutdown.as_mut()).await {
                    return end;
                }
                self.trying_again = 0;
                self.waiting.tidy();
                has_tried_again = true;
                self.gather(source).await;
                continue;
            }
            if self.ahead.is_empty() {
                let has_room = self.has_room();
                tokio::select! {
                    biased;
                    () = &mut shutdown => return End::Shutdown,
                    Some(recorded) = self.recording.next() => {
                        self.on_recorded(recorded);
                        continue;
                    }
                    () = until(self.waiting.until()) => continue,
                    next = source.next(), if has_room => match next {
                        Some(delivery) => self.take(delivery),
                        None => return End::Subscription(source.take_last_error()),
                    },
                }
            }
            self.gather(source).await;
            let Ahead { batch, unreadable, back, .. } = std::mem::take(&mut self.ahead);
            for item in unreadable {
                if let Err(end) = self.dead_letter_unreadable(item, shutdown.as_mut()).await {
                    return end;
                }
            }
            if let Err(end) = self.forward(batch, source, shutdown.as_mut()).await {
                return end;
            }
            if let Some((item, delay)) = back {
                // Here and not in the source: not every source can wait.
                if pause(delay, shutdown.as_mut()).await.is_err() {
                    return End::Shutdown;
                }
                item.nack();
            }
        }
    }

    /// Says how it is doing, with so many messages in hand that do not wait aside.
    pub(super) fn say_status(&self, in_hand: usize) {
        let mut held = self.waiting.held();
        if let Some((error, since)) = self.trouble.as_ref().filter(|_| in_hand > 0) {
            held.insert(
                0,
                Held {
                    destination: None,
                    key: None,
                    messages: in_hand,
                    attempts: self.failures,
                    error: error.clone(),
                    since: since.elapsed(),
                    paused: false,
                },
            );
        }
        self.forwarder.control.shared.update(Snapshot {
            counts: self.report.clone(),
            in_hand: in_hand + self.ahead.batch.len() + self.waiting.len(),
            unrecorded: self.unrecorded,
            held,
        });
    }

    /// Takes note that messages were published.
    pub(super) fn published(&mut self, published: Vec<Pending>, checkpoint: Bytes) {
        self.checkpoint = Some(checkpoint);
        (self.failures, self.trouble, self.refused_in_a_row) = (0, None, 0);
        self.commits += 1;
        self.size.accepted(published.len());
        let accepted = published.iter().filter(|pending| !pending.is_given_up());
        self.report.outbox.accepted(accepted.map(|pending| &pending.item));
        for pending in &published {
            match pending.is_given_up() {
                true => self.report.gave_up(pending.destination.as_deref(), 1, "other"),
                false => self.report.accepted(pending.destination.as_deref(), 1),
            }
        }
        self.record(published);
    }

    pub(super) fn note(&mut self, error: &PublishError) {
        let since = self.trouble.as_ref().map_or_else(Instant::now, |(_, since)| *since);
        self.trouble = Some((chain(error), since));
    }

    /// Acks what was published.
    pub(super) fn record(&mut self, published: Vec<Pending>) {
        if published.is_empty() {
            return;
        }
        self.unrecorded += published.len();
        let acks = published
            .into_iter()
            .map(|Pending { item, place, .. }| item.ack_confirmed().map(move |recorded| (place, recorded)));
        self.recording.push(join_all(acks).boxed());
        // Acks are sent when they are first looked at.
        while let Some(Some(recorded)) = self.recording.next().now_or_never() {
            self.on_recorded(recorded);
        }
    }

    pub(super) fn on_recorded(&mut self, recorded: Recorded) {
        self.unrecorded -= recorded.len();
        let Some(journal) = &mut self.journal else { return };
        for (place, recorded) in recorded {
            match recorded {
                Ok(()) => journal.recorded(place),
                Err(_) => journal.lost(place),
            }
        }
    }

    /// Waits until the source has recorded what was published, within the time there is for it.
    async fn finish_recording(&mut self, deadline: Instant) {
        // Given up here, the checkpoint has it.
        self.term = None;
        let all = async { while self.recording.next().await.is_some() {} };
        let _ = timeout_at(deadline, all).await;
    }
}

pub(super) async fn pause<S: Future<Output = ()>>(delay: Duration, shutdown: Pin<&mut S>) -> Result<(), End> {
    tokio::select! {
        biased;
        () = shutdown => Err(End::Shutdown),
        () = sleep(delay) => Ok(()),
    }
}
