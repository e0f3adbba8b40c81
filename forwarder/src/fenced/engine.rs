//! The engine: takes a batch, commits it with what is known of it, acks it, and takes the next.

use std::{
    pin::{Pin, pin},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use watermill_core::{
    error::{PublishError, PublishErrorKind, SettleError, chain},
    fenced::Term,
    router::Phase,
};

use super::{
    FencedForwarder,
    batch::{Batch, Pending},
    journal::{Journal, Place},
    waiting::Waiting,
};
use crate::{
    ForwarderError, ForwarderReport, Held,
    config::StopDeadlines,
    control::{Run, Snapshot},
    end::End,
    relay::source::Source,
};

/// Runs a relay from subscribing to the closing of the subscription.
pub(super) async fn run(
    forwarder: &FencedForwarder,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<ForwarderReport, ForwarderError> {
    let shared = &*forwarder.control.shared;
    let _run = Run::start(shared);
    let asked = async {
        tokio::select! {
            biased;
            () = shutdown => {}
            () = shared.stopped() => {}
        }
    };
    let mut shutdown = pin!(asked);
    let topic = &*forwarder.config.topic;
    let (config, window) = (&forwarder.config, |ordering| forwarder.config.window(ordering));
    let opened = Source::open(&*forwarder.subscriber, (config, shared), window, shutdown.as_mut()).await?;
    let Some(mut source) = opened else { return Ok(ForwarderReport::default()) };

    let mut engine = Engine::new(forwarder);
    let end = engine.flow(&mut source, shutdown).await;
    shared.enter(Phase::Draining);
    let stop = engine.stop.unwrap_or_else(|| forwarder.config.stop_deadlines());
    source.stop_intake();
    engine.finish_recording(stop.drained).await;
    shared.update(Snapshot { counts: engine.report.clone(), ..Snapshot::default() });
    // What waits goes back before the source is closed.
    drop(engine.waiting);
    end.into_result(topic, source.close(stop.closed).await, engine.report)
}

pub(super) struct Engine<'a> {
    pub(super) forwarder: &'a FencedForwarder,
    pub(super) term: Option<Box<dyn Term>>,
    /// From the first term on.
    pub(super) journal: Option<Journal>,
    /// The last checkpoint that was committed.
    pub(super) checkpoint: Option<Bytes>,
    /// Acks on their way, of what was published.
    recording: FuturesUnordered<BoxFuture<'a, (Place, Result<(), SettleError>)>>,
    /// What was refused, and is tried again later.
    pub(super) waiting: Waiting,
    /// The most messages of the next commit: fewer while a message is searched that is at fault.
    pub(super) size: usize,
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
            recording: FuturesUnordered::new(),
            waiting: Waiting::default(),
            size: forwarder.config.batch_size,
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
            // What is published and not recorded is what a checkpoint holds: it is bounded too.
            let has_room = self.recording.len() < self.forwarder.config.batch_size
                && self.waiting.len() < self.forwarder.config.max_blocked;
            // Trying again what waits may take so long that it is due again: what is new has its turn in between, and
            // tells, when it passes, that the destination works.
            let new = match has_room && std::mem::take(&mut has_tried_again) {
                true => source.ready().await,
                false => None,
            };
            let first = match new {
                Some(new) => new,
                None => tokio::select! {
                    biased;
                    () = &mut shutdown => return End::Shutdown,
                    Some((place, recorded)) = self.recording.next() => {
                        self.on_recorded(place, recorded);
                        continue;
                    }
                    () = until(self.waiting.until()) => {
                        let again = self.waiting.take();
                        if let Err(end) = self.forward(again, shutdown.as_mut()).await {
                            return end;
                        }
                        self.waiting.tidy();
                        has_tried_again = true;
                        continue;
                    }
                    next = source.next(), if has_room => match next {
                        Some(delivery) => delivery,
                        None => return End::Subscription(source.take_last_error()),
                    },
                },
            };
            let gathered = match self.gather(first, source).await {
                Ok(gathered) => gathered,
                Err(end) => return end,
            };
            for item in gathered.unreadable {
                if let Err(end) = self.dead_letter_unreadable(item, shutdown.as_mut()).await {
                    return end;
                }
            }
            if let Err(end) = self.forward(gathered.batch, shutdown.as_mut()).await {
                return end;
            }
            if let Some((item, delay)) = gathered.back {
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
            in_hand: in_hand + self.waiting.len(),
            unrecorded: self.recording.len(),
            held,
        });
    }

    /// Publishes a batch, however long it takes.
    async fn forward<S: Future<Output = ()>>(
        &mut self,
        mut batch: Batch,
        mut shutdown: Pin<&mut S>,
    ) -> Result<(), End> {
        if batch.is_empty() {
            return Ok(());
        }
        self.begin(&mut batch, None, shutdown.as_mut()).await?;
        let journal = self.journal.as_mut().expect("the first term begins one");
        for pending in batch.take(|pending| pending.is_new() && journal.is_known(pending.place)) {
            self.report.repeated += 1;
            self.record(pending);
        }
        loop {
            // What somebody else has now is for them to publish.
            drop(batch.take(|pending| pending.item.is_lost()));
            let size = batch.together(self.size);
            if size == 0 {
                return Ok(());
            }
            self.wait_while_paused(&batch, size, shutdown.as_mut()).await?;
            let journal = self.journal.as_mut().expect("the first term begins one");
            let checkpoint = journal.publish(batch.places(size));
            match self.commit(&batch, size, checkpoint.clone(), shutdown.as_mut()).await {
                Ok(()) => self.published(&mut batch, size, checkpoint),
                Err(error) if self.stop.is_some() => {
                    return Err(match error.kind() {
                        PublishErrorKind::Fenced => End::Fenced(Some(error)),
                        _ => End::Shutdown,
                    });
                }
                Err(error) => {
                    self.term = None;
                    let in_doubt =
                        self.failed(&mut batch, size, (error, checkpoint), shutdown.as_mut()).await?;
                    self.say_status(batch.len());
                    if self.failures > 0 {
                        let delay = self.forwarder.config.backoff.delay(self.failures - 1);
                        pause(delay, shutdown.as_mut()).await?;
                    }
                    self.begin(&mut batch, in_doubt, shutdown.as_mut()).await?;
                }
            }
            if self.stop.is_some() {
                return Err(End::Shutdown);
            }
        }
    }

    /// Waits for as long as anything of the next commit is paused.
    async fn wait_while_paused<S: Future<Output = ()>>(
        &mut self,
        batch: &Batch,
        size: usize,
        mut shutdown: Pin<&mut S>,
    ) -> Result<(), End> {
        let forwarder = self.forwarder;
        let shared = &forwarder.control.shared;
        loop {
            let pauses = shared.pauses();
            let is_paused = |pending: &Pending| {
                let (destination, key) =
                    (pending.destination.clone().unwrap_or_default(), pending.item.key());
                key.is_some_and(|key| pauses.contains(&(destination.clone(), Some(key.clone()))))
                    || pauses.contains(&(destination, None))
            };
            if pauses.is_empty() || !batch.first(size).any(is_paused) {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = &mut shutdown => return Err(End::Shutdown),
                () = shared.pauses_changed() => {}
            }
        }
    }

    /// Takes note that the first messages of a batch were published.
    pub(super) fn published(&mut self, batch: &mut Batch, size: usize, checkpoint: Bytes) {
        self.checkpoint = Some(checkpoint);
        (self.failures, self.trouble, self.refused_in_a_row) = (0, None, 0);
        self.commits += 1;
        self.size = self.size.saturating_mul(2).min(self.forwarder.config.batch_size);
        for pending in batch.take_first(size) {
            match pending.is_given_up() {
                true => self.report.gave_up(pending.destination.as_deref(), 1, "other"),
                false => self.report.accepted(pending.destination.as_deref(), 1),
            }
            self.record(pending);
        }
        // Acks are sent when they are first looked at.
        while let Some(Some((place, recorded))) = self.recording.next().now_or_never() {
            self.on_recorded(place, recorded);
        }
    }

    pub(super) fn note(&mut self, error: &PublishError) {
        let since = self.trouble.as_ref().map_or_else(Instant::now, |(_, since)| *since);
        self.trouble = Some((chain(error), since));
    }

    /// Acks what was published.
    fn record(&mut self, pending: Pending) {
        let Pending { item, place, .. } = pending;
        self.recording.push(async move { (place, item.ack_confirmed().await) }.boxed());
    }

    fn on_recorded(&mut self, place: Place, recorded: Result<(), SettleError>) {
        let Some(journal) = &mut self.journal else { return };
        match recorded {
            Ok(()) => journal.recorded(place),
            Err(_) => journal.lost(place),
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

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
