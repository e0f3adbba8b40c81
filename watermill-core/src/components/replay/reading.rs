//! [`Reading`]: the task of a subscription, which reads a part of a log.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{ReplayLog, ReplayMessage, ReplayPart, progress::Share};
use crate::{
    Backoff,
    backend::{ByPosition, Shared, SharedOptions},
    delivery::Origin,
    error::{SubscribeError, chain},
};

/// How many messages of a partition are read ahead, and how many bytes.
const AHEAD: usize = 1_000;
const AHEAD_BYTES: usize = 16 * 1024 * 1024;

/// A look at the log costs a query or a client: none for fewer messages.
const ROOM_MIN: usize = AHEAD / 2;

/// How often it looks whether there is room, beside looking when messages were settled.
const LOOK: Duration = Duration::from_millis(50);

/// A wait that something else ends.
const LONG: Duration = Duration::from_hours(1);

pub(super) fn shared(topic: &str) -> Shared<ByPosition> {
    let options = SharedOptions::default().record_batch(100).record_interval(Duration::from_millis(20));
    Shared::new(topic, None, ByPosition::new(AHEAD), options)
}

pub(super) struct Reading<L> {
    log: Arc<L>,
    shared: Arc<Shared<ByPosition>>,
    origin: Origin,
    parts: Vec<Part>,
    progress: Share,
    failures: u32,
    /// Until when the log is left alone.
    rest_until: Option<Instant>,
}

/// A partition, and how far it is replayed.
struct Part {
    /// What is still to be read.
    rest: ReplayPart,
    is_read: bool,
    /// The offset behind the last message that was read, and behind the last one up to which all are settled.
    read: u64,
    settled: u64,
    /// Messages that are in memory, by their offsets, and their sizes.
    sizes: VecDeque<(u64, usize)>,
    bytes: usize,
}

impl<L: ReplayLog> Reading<L> {
    pub(super) fn new(
        log: Arc<L>,
        shared: Arc<Shared<ByPosition>>,
        origin: Origin,
        parts: Vec<ReplayPart>,
        progress: Share,
    ) -> Self {
        let parts = parts.into_iter().map(Part::new).collect();
        Self { log, shared, origin, parts, progress, failures: 0, rest_until: None }
    }

    pub(super) async fn run(mut self) {
        let task = self.shared.task();
        for part in &self.parts {
            self.shared.lock().ledger.assign(part.rest.partition, part.rest.from);
        }
        self.shared.start();
        let closing = self.shared.closing().clone();
        while !self.shared.is_over() {
            self.record();
            if self.rest_until.is_none_or(|until| until <= Instant::now()) {
                let read = closing.run_until_cancelled(self.read()).await;
                self.note(read.unwrap_or(Ok(())));
            }
            self.tell_if_done();
            let is_read = self.parts.iter().all(|part| part.is_read);
            let next = self.rest_until.unwrap_or_else(|| Instant::now() + if is_read { LONG } else { LOOK });
            self.shared.wait(false, next).await;
        }
        self.shared.give_back(&self.origin);
        self.record();
        self.tell_if_done();
        task.end(Ok(()));
    }

    /// Reads what there is room for, of each partition.
    async fn read(&mut self) -> Result<(), SubscribeError> {
        let topic = self.shared.topic();
        for part in self.parts.iter_mut().filter(|part| !part.is_read) {
            let room = self.shared.lock().ledger.room(part.rest.partition);
            if room < ROOM_MIN || part.bytes >= AHEAD_BYTES {
                continue;
            }
            let messages = self.log.read(topic, &part.rest, room).await?;
            part.take_in(messages, &self.shared);
            self.shared.wake_stream();
        }
        Ok(())
    }

    /// Takes note of how reading went.
    fn note(&mut self, read: Result<(), SubscribeError>) {
        match read {
            Ok(()) if self.failures == 0 => {}
            Ok(()) => {
                (self.failures, self.rest_until) = (0, None);
                self.shared.lock().recovered();
            }
            Err(error) => {
                let wait = Backoff::default().delay(self.failures);
                let (topic, reason) = (self.shared.topic(), chain(&error));
                tracing::warn!(topic, ?wait, error = reason, "the log cannot be read now; it is tried again");
                self.shared.lock().degraded(reason);
                self.shared.report(error);
                self.failures = self.failures.saturating_add(1);
                self.rest_until = Some(Instant::now() + wait);
            }
        }
    }

    /// Nobody else is told of what is settled.
    fn record(&mut self) {
        let (rejected, positions) = {
            let mut state = self.shared.lock();
            let rejected = state.ledger.take_rejected(usize::MAX);
            rejected.iter().for_each(|rejected| state.ledger.rejected_done(rejected.token, Instant::now()));
            let positions = state.ledger.positions();
            state.ledger.recorded(&positions);
            (rejected, positions)
        };
        for rejected in rejected {
            tracing::error!(
                topic = self.shared.topic(),
                message_id = rejected.message.id().as_str(),
                attempts = rejected.attempts,
                reason = rejected.reason,
                "rejected: the replay passes the message, which stays in its log"
            );
        }
        for (partition, settled) in positions {
            let part = self.parts.iter_mut().find(|part| part.rest.partition == partition);
            part.into_iter().for_each(|part| part.settle(settled));
        }
    }

    fn tell_if_done(&mut self) {
        let is_done = self.parts.iter().all(|part| part.is_read && part.settled >= part.read);
        if is_done && !self.progress.is_done() {
            tracing::info!(topic = self.shared.topic(), "everything is replayed");
            self.progress.done();
        }
    }
}

impl Part {
    fn new(rest: ReplayPart) -> Self {
        let (is_read, sizes) = (rest.from >= rest.until, VecDeque::new());
        Self { rest, is_read, read: rest.from, settled: rest.from, sizes, bytes: 0 }
    }

    /// Everything before this offset is.
    fn settle(&mut self, settled: u64) {
        self.settled = settled;
        while let Some((_, size)) = self.sizes.front().filter(|(offset, _)| *offset < settled) {
            self.bytes -= size;
            self.sizes.pop_front();
        }
    }

    fn take_in(&mut self, messages: Vec<ReplayMessage>, shared: &Shared<ByPosition>) {
        self.is_read = messages.is_empty();
        for ReplayMessage { offset, published_at, message } in messages {
            if offset >= self.rest.until {
                self.is_read = true;
                return;
            }
            self.rest.from = offset + 1;
            match message {
                Ok(message) => {
                    let size = message.payload().len();
                    self.sizes.push_back((offset, size));
                    self.bytes += size;
                    shared.lock().ledger.push(self.rest.partition, offset, message, published_at);
                    self.read = offset + 1;
                }
                Err(error) => {
                    let fate = format!("the record at offset {offset} is no message, and is passed");
                    shared.report_undecodable(fate, error);
                }
            }
        }
        self.is_read |= self.rest.from >= self.rest.until;
    }
}
