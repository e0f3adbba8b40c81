//! The engine: takes a batch, commits it with what is known of it, acks it, and takes the next.

use std::{
    pin::{Pin, pin},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::{Instant, sleep, timeout_at};
use watermill_core::{
    Delivery,
    error::{PublishError, PublishErrorKind, SettleError, chain},
    fenced::Term,
};

use super::{
    FencedForwarder,
    batch::{Batch, Pending},
    journal::{Journal, Place},
};
use crate::{
    ForwarderError, ForwarderReport, OnUnreadable,
    config::StopDeadlines,
    control::Run,
    end::End,
    relay::{item::Item, source::Source},
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
    let (config, window) = (&forwarder.config, |_| forwarder.config.fenced_window());
    let opened = Source::open(&*forwarder.subscriber, (config, shared), window, shutdown.as_mut()).await?;
    let Some(mut source) = opened else { return Ok(ForwarderReport::default()) };

    let mut engine = Engine::new(forwarder);
    let end = engine.flow(&mut source, shutdown).await;
    let stop = engine.stopping.unwrap_or_else(|| forwarder.config.stop_deadlines());
    source.stop_intake();
    engine.finish_recording(stop.drained).await;
    end.into_result(topic, source.close(stop.closed).await, engine.report)
}

struct Engine<'a> {
    forwarder: &'a FencedForwarder,
    term: Option<Box<dyn Term>>,
    /// From the first term on.
    journal: Option<Journal>,
    /// The last checkpoint that was committed.
    checkpoint: Option<Bytes>,
    /// Acks on their way, of what was published.
    recording: FuturesUnordered<BoxFuture<'a, (Place, Result<(), SettleError>)>>,
    /// The most messages of the next commit: fewer while a message is searched that is at fault.
    size: usize,
    /// How many commits in a row have failed.
    failures: u32,
    /// Until when what may take, once it is to stop in the middle of a transaction.
    stopping: Option<StopDeadlines>,
    report: ForwarderReport,
}

impl<'a> Engine<'a> {
    fn new(forwarder: &'a FencedForwarder) -> Self {
        Self {
            forwarder,
            term: None,
            journal: None,
            checkpoint: None,
            recording: FuturesUnordered::new(),
            size: forwarder.config.batch_size,
            failures: 0,
            stopping: None,
            report: ForwarderReport::default(),
        }
    }

    /// Takes and forwards until something ends it.
    async fn flow<S: Future<Output = ()>>(&mut self, source: &mut Source, mut shutdown: Pin<&mut S>) -> End {
        loop {
            // What is published and not recorded is what a checkpoint holds: it is bounded too.
            let has_room = self.recording.len() < self.forwarder.config.batch_size;
            let first = tokio::select! {
                biased;
                () = &mut shutdown => return End::Shutdown,
                Some((place, recorded)) = self.recording.next() => {
                    self.on_recorded(place, recorded);
                    continue;
                }
                next = source.next(), if has_room => match next {
                    Some(delivery) => delivery,
                    None => return End::Subscription(source.take_last_error()),
                },
            };
            let gathered = match self.gather(first, source).await {
                Ok(gathered) => gathered,
                Err(end) => return end,
            };
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

    /// Takes what is ready behind `first`, or comes while it lingers.
    async fn gather(&mut self, first: Delivery, source: &mut Source) -> Result<Gathered, End> {
        let config = &self.forwarder.config;
        let until = Instant::now() + config.linger;
        let mut gathered = Gathered::default();
        let mut next = Some(first);
        while let Some(delivery) = next {
            let attempt = delivery.info().attempt();
            let place = Place::of(&delivery).ok_or_else(|| {
                End::Unsuitable("the source has no offsets, by which its messages are known again".to_owned())
            })?;
            let (destination, item) = Item::new(delivery, config.key_from.as_ref());
            let mut pending = Pending::new(item, place, destination);
            if let Err(error) = &pending.item.inner {
                let (topic, id, handling) = (&*config.topic, pending.item.outer.id(), config.on_unreadable);
                tracing::error!(topic, %id, error = %chain(error), ?handling, "not an envelope");
                match handling {
                    OnUnreadable::DeadLetter => pending.give_up(&self.forwarder.handler, None),
                    OnUnreadable::Ack => {
                        pending.item.ack();
                        self.report.dropped += 1;
                        next = source.ready().await;
                        continue;
                    }
                    OnUnreadable::Nack => {
                        let delay = config.backoff.delay(attempt.saturating_sub(1));
                        gathered.back = Some((pending.item, delay));
                        return Ok(gathered);
                    }
                }
            }
            gathered.batch.push(pending);
            if gathered.batch.len() >= config.batch_size {
                break;
            }
            next = match source.ready().await {
                None if !config.linger.is_zero() => timeout_at(until, source.next()).await.unwrap_or(None),
                ready => ready,
            };
        }
        Ok(gathered)
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
        for pending in batch.take(|pending| journal.is_known(pending.place)) {
            self.report.repeated += 1;
            self.record(pending);
        }
        loop {
            // What somebody else has now is for them to publish.
            drop(batch.take(|pending| pending.item.is_lost()));
            let size = self.size.min(batch.len());
            if size == 0 {
                return Ok(());
            }
            let journal = self.journal.as_mut().expect("the first term begins one");
            let checkpoint = journal.publish(batch.places(size));
            let outgoing = batch.outgoing(size, &self.forwarder.config.dead_letter_topic);
            let term = self.term.as_mut().expect("a term has begun");
            let committed = {
                let mut commit = pin!(term.commit(outgoing, checkpoint.clone()));
                tokio::select! {
                    biased;
                    committed = &mut commit => Some(committed),
                    () = shutdown.as_mut() => {
                        let deadlines = *self.stopping.insert(self.forwarder.config.stop_deadlines());
                        timeout_at(deadlines.drained, commit).await.ok()
                    }
                }
            };
            let Some(committed) = committed else {
                // Whether it is committed is for the next relay to find out.
                self.term = None;
                tracing::warn!(topic = self.forwarder.config.topic, "stopped before a transaction had ended");
                return Err(End::Shutdown);
            };
            match committed {
                Ok(()) => {
                    self.published(&mut batch, size, checkpoint);
                    if self.stopping.is_some() {
                        return Err(End::Shutdown);
                    }
                }
                Err(error) if self.stopping.is_some() && error.kind() != PublishErrorKind::Fenced => {
                    let error = chain(&error);
                    tracing::warn!(
                        topic = self.forwarder.config.topic,
                        error,
                        "not published before the end"
                    );
                    return Err(End::Shutdown);
                }
                Err(error) => {
                    self.term = None;
                    let in_doubt = self.failed(&mut batch, size, error, checkpoint)?;
                    if self.failures > 0 {
                        let delay = self.forwarder.config.backoff.delay(self.failures - 1);
                        pause(delay, shutdown.as_mut()).await?;
                    }
                    self.begin(&mut batch, in_doubt, shutdown.as_mut()).await?;
                }
            }
        }
    }

    /// Takes note that the first messages of a batch were published.
    fn published(&mut self, batch: &mut Batch, size: usize, checkpoint: Bytes) {
        self.checkpoint = Some(checkpoint);
        self.failures = 0;
        self.size = self.size.saturating_mul(2).min(self.forwarder.config.batch_size);
        for pending in batch.take_first(size) {
            let dead = u64::from(pending.is_given_up());
            self.report.count(pending.destination.as_deref(), 1 - dead, dead);
            self.record(pending);
        }
        // Acks are sent when they are first looked at.
        while let Some(Some((place, recorded))) = self.recording.next().now_or_never() {
            self.on_recorded(place, recorded);
        }
    }

    /// Decides what becomes of messages that were not published; returns the checkpoint that may have been
    /// committed all the same.
    fn failed(
        &mut self,
        batch: &mut Batch,
        size: usize,
        error: PublishError,
        checkpoint: Bytes,
    ) -> Result<Option<(Bytes, usize)>, End> {
        let config = &self.forwarder.config;
        tracing::warn!(topic = config.topic, messages = size, error = %chain(&error), "not published");
        match error.kind() {
            PublishErrorKind::Fenced => return Err(End::Fenced(Some(error))),
            PublishErrorKind::Closed => return Err(End::PublisherClosed(error)),
            _ if error.is_retryable() => self.failures = self.failures.saturating_add(1),
            _ => {}
        }
        if error.kind() == PublishErrorKind::Timeout {
            return Ok(Some((checkpoint, size)));
        }
        let journal = self.journal.as_mut().expect("the first term begins one");
        journal.take_back(batch.places(size));
        if error.is_retryable() {
            return Ok(None);
        }
        let at_fault = |pending: &Pending| match error.kind() {
            PublishErrorKind::Topic => pending.destination.as_deref() == Some(error.topic()),
            _ => size == 1,
        };
        let mut given_up = 0;
        for pending in batch.first_mut(size).filter(|pending| at_fault(pending) && !pending.is_given_up()) {
            pending.give_up(&self.forwarder.handler, Some(&error));
            given_up += 1;
        }
        if given_up == 0 && size == 1 {
            // Its dead letter cannot be published either. Somebody has to change something first.
            self.failures = self.failures.saturating_add(1);
        }
        if given_up == 0 {
            self.size = (size / 2).max(1);
        }
        Ok(None)
    }

    /// Begins a term unless there is one, however long it takes, and sees who was at work in between.
    async fn begin<S: Future<Output = ()>>(
        &mut self,
        batch: &mut Batch,
        in_doubt: Option<(Bytes, usize)>,
        mut shutdown: Pin<&mut S>,
    ) -> Result<(), End> {
        if self.term.is_some() {
            return Ok(());
        }
        let (name, topic) = (&*self.forwarder.name, &*self.forwarder.config.topic);
        let term = loop {
            let begun = tokio::select! {
                biased;
                () = &mut shutdown => return Err(End::Shutdown),
                begun = self.forwarder.destination.begin(name) => begun,
            };
            let error = match begun {
                Ok(term) => break term,
                Err(error) if error.kind() == PublishErrorKind::Closed => {
                    return Err(End::PublisherClosed(error));
                }
                Err(error) => error,
            };
            tracing::error!(topic, name, error = %chain(&error), "the destination cannot be taken over yet");
            let delay = self.forwarder.config.backoff.delay(self.failures);
            self.failures = self.failures.saturating_add(1);
            pause(delay, shutdown.as_mut()).await?;
        };
        let found = term.checkpoint();
        let Some(journal) = &mut self.journal else {
            let journal = Journal::after(found).ok_or_else(|| {
                End::Unsuitable(format!("the destination has a checkpoint of {name:?} that is not a relay's"))
            })?;
            self.journal = Some(journal);
            self.checkpoint = found.cloned();
            self.term = Some(term);
            return Ok(());
        };
        match in_doubt {
            Some((checkpoint, size)) if found == Some(&checkpoint) => self.published(batch, size, checkpoint),
            _ if found != self.checkpoint.as_ref() => return Err(End::Fenced(None)),
            Some((_, size)) => journal.take_back(batch.places(size)),
            None => {}
        }
        self.term = Some(term);
        Ok(())
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

async fn pause<S: Future<Output = ()>>(delay: Duration, shutdown: Pin<&mut S>) -> Result<(), End> {
    tokio::select! {
        biased;
        () = shutdown => Err(End::Shutdown),
        () = sleep(delay) => Ok(()),
    }
}

/// What was taken from the source.
#[derive(Default)]
struct Gathered {
    batch: Batch,
    /// Behind it, what is no envelope and goes back after a while.
    back: Option<(Item, Duration)>,
}
