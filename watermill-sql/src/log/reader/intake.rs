//! Fetching rows.

use std::time::Duration;

use tokio::time::Instant;
use watermill_core::{
    backend::{Ledger as _, State},
    error::{SubscribeError, SubscribeErrorKind},
};

use super::{
    Reader,
    connection::Kept,
    leaving::{Leave, Leaving},
    shard,
    waiting::Waiting,
};
use crate::{
    connection::{IDLE_MAX, Pooled, within},
    error::{Failure, classify},
    log::{
        SqlSubscriberConfig,
        dialect::{Cursor as _, Fetched, LogDialect},
        last_row,
        lease::Lease,
        ledger::LogLedger,
    },
    marshaler::Unreadable,
    pace::Polling,
    position::Position,
    stored::{Limit, Row},
};

/// What fetching needs from one time to the next.
pub(super) struct Fetching<D: LogDialect> {
    lease: Lease,
    /// When to look whether the table is the one that was read.
    check_at: Instant,
    /// `None` before the first fetch.
    pub(super) cursor: Option<D::Cursor>,
    /// For the next statement, because to get one of the pool takes longer than most statements.
    pub(super) connection: Option<Kept<D>>,
    /// When it goes back; `None` while the cursor cannot do without it, or when there is none.
    pub(super) kept_until: Option<Instant>,
    pub(super) waiting: Waiting,
    polling: Polling,
    /// Whether the table may have changed since that was looked.
    unchecked: bool,
    /// How many rows are asked for at most, so that most fetches bring no more than fits; `None` where they did.
    rows_max: Option<usize>,
    /// A row that cannot be read: how often it was looked at, and when to look again.
    held: Option<(Position, u32, Instant)>,
    /// Whether a shard's reader fetches no more in this term.
    pub(super) leaving: Leaving,
    /// When a shard's reader looks at the plan again at the latest.
    look_by: Option<Instant>,
    /// The boundary that the cursor was told of.
    reaches: Option<i64>,
}

impl<D: LogDialect> Fetching<D> {
    pub(super) fn new(lease: Lease, config: &SqlSubscriberConfig, now: Instant) -> Self {
        Self {
            lease,
            check_at: now,
            cursor: None,
            connection: None,
            kept_until: None,
            waiting: Waiting::default(),
            polling: Polling::new(config.poll_interval_min, now),
            unchecked: false,
            rows_max: None,
            held: None,
            leaving: Leaving::default(),
            look_by: None,
            reaches: None,
        }
    }

    /// When to fetch.
    pub(super) fn due(&self) -> Instant {
        let at = self.polling.at();
        self.held.map_or(at, |(_, _, held_until)| held_until.max(at))
    }

    /// Fetches at this time at the latest.
    pub(super) fn look_by(&mut self, at: Instant) {
        self.look_by = Some(at);
    }

    /// Whether everything up to a boundary is read, although there is no row at it or behind it: it may have been deleted.
    /// That is known of a fetch that began when the cursor knew the boundary, and has found nothing.
    pub(super) fn is_at_the_end(&mut self, boundary: i64, fetched: &Fetched) -> bool {
        let knew = self.reaches == Some(boundary);
        if let Some(cursor) = &mut self.cursor {
            cursor.reaches(boundary);
            self.reaches = Some(boundary);
        }
        knew && fetched.rows.is_empty() && !fetched.more && !fetched.undecided && !fetched.is_cut
    }

    /// Something was published.
    pub(super) fn poll_now(&mut self) {
        self.polling.woken(Instant::now());
        self.unchecked = true;
    }

    /// Of rows that did not fit, the next fetch asks for as many as did; of small ones for more again.
    fn note_size(&mut self, fetched: &Fetched, config: &SqlSubscriberConfig) {
        if fetched.is_cut {
            self.rows_max = Some(fetched.rows.len().max(1));
        } else if let Some(rows) = self.rows_max
            && fetched.rows.iter().map(Row::bytes).sum::<usize>() <= config.batch_bytes / 2
        {
            self.rows_max = Some(rows * 2).filter(|rows| *rows < config.max_ahead);
        }
    }

    /// Gives back the connection that was kept for long enough; otherwise, until when it is kept.
    pub(super) fn let_go(&mut self, now: Instant) -> Option<Instant> {
        if self.kept_until.is_some_and(|until| until <= now) {
            (self.connection, self.kept_until) = (None, None);
        }
        self.kept_until
    }
}

impl<D: LogDialect> Reader<D> {
    pub(super) async fn fetch(&self, mut fetching: Fetching<D>) -> (Fetching<D>, Result<(), Failure>) {
        let (after, rows) = {
            let state = self.shared.lock();
            (state.ledger.read_up_to(), state.ledger.rows_to_fetch())
        };
        let fetched = within(self.config.statement_max(), self.read(&mut fetching, after, rows)).await;
        match fetched {
            Ok(fetched) => {
                self.came(&mut fetching, fetched);
                (fetching, Ok(()))
            }
            Err(failure) => {
                // The server, or the table, may be another by now: check again what was checked at the start.
                (fetching.cursor, fetching.reaches) = (None, None);
                (fetching, Err(failure))
            }
        }
    }

    async fn read(
        &self,
        fetching: &mut Fetching<D>,
        after: Position,
        rows: usize,
    ) -> Result<Fetched, Failure> {
        let mut connection = self.connect_for(fetching).await?;
        let cursor = match &mut fetching.cursor {
            Some(cursor) => cursor,
            none => none.insert(D::open_cursor(connection.get(), &self.tables, &self.config).await?),
        };
        let asked = Instant::now();
        if asked >= fetching.check_at {
            last_row::check_and_note::<D>(connection.get(), &self.config, cursor, &fetching.lease).await?;
            fetching.check_at = asked + self.config.lease / 3;
            fetching.unchecked = false;
        }
        let rows = fetching.rows_max.map_or(rows, |rows_max| rows_max.min(rows));
        let limit = Limit { rows, bytes: self.config.batch_bytes };
        let fetched = D::fetch(connection.get(), &self.tables, cursor, after, limit).await;
        let mut fetched = fetched.map_err(classify::<D>)?;
        fetching.note_size(&fetched, &self.config);
        let connection = match (&self.slot, fetched.is_cut) {
            (None, _) => Some(connection),
            (Some(slot), false) => {
                self.look(connection.get(), slot, fetching, after, &mut fetched).await?;
                Some(connection)
            }
            // Over that connection nothing can be asked.
            (Some(slot), true) => {
                drop(connection);
                let mut other = Pooled::clean(&self.pool).await?;
                self.look(other.get(), slot, fetching, after, &mut fetched).await?;
                other.settled();
                None
            }
        };
        let now = Instant::now();
        let (topic, group) = (self.tables.topic(), self.config.group_name());
        fetching.waiting.note(&self.shared, topic, group, fetched.holder.clone(), now);
        // Closed, it brings no more of what did not fit.
        if let Some(connection) = connection.filter(|_| !fetched.is_cut) {
            self.keep_for(fetching, connection);
        }
        Ok(fetched)
    }

    fn came(&self, fetching: &mut Fetching<D>, Fetched { rows, more, undecided, .. }: Fetched) {
        let now = Instant::now();
        // Of what a shard's reader has left for later, there may be more.
        let is_behind = fetching.leaving.why().is_some() || fetching.look_by.is_some();
        let read_to_the_end = !more && !undecided && !is_behind;
        let (min, max) = (self.config.poll_interval_min, self.config.poll_interval_max);
        match &self.watched {
            _ if !rows.is_empty() => {
                let pause = if more { Duration::ZERO } else { min };
                fetching.polling.found(pause, min, now);
                fetching.unchecked = true;
            }
            Some(seat) if !undecided => fetching.polling.found_nothing(max, seat.pause(max), now),
            _ => fetching.polling.found_nothing(max, max, now),
        }
        if fetching.unchecked {
            fetching.polling.no_later_than(fetching.check_at);
        }
        if self.slot.is_some() {
            let look_by = fetching.look_by.take().unwrap_or(now + shard::LOOK_INTERVAL);
            fetching.polling.no_later_than(look_by);
        }
        let has_come = !rows.is_empty();
        self.take_in(fetching, rows, read_to_the_end, now);
        self.shared.lock().ledger.fetched(more);
        if has_come {
            self.shared.wake_stream();
        }
    }

    fn take_in(&self, fetching: &mut Fetching<D>, rows: Vec<Row>, read_to_the_end: bool, now: Instant) {
        let mut unreadable = Vec::new();
        // It may have been deleted.
        let held_before = fetching.held.take();
        let mut state = self.shared.lock();
        for Row { position, published_at, message } in rows {
            if self.is_foreign(position, &message) {
                state.ledger.push_foreign(position);
                continue;
            }
            match message {
                Ok(message) => state.ledger.push(position, message, published_at),
                Err(Unreadable { error, remains }) => {
                    let reason = error.to_string();
                    let kept = self.dead_letters.is_some();
                    unreadable.push((position.offset, error, kept));
                    if kept {
                        state.ledger.push_dead(position, remains, reason, now);
                        continue;
                    }
                    let looks = match held_before {
                        Some((at, looks, _)) if at == position => looks + 1,
                        _ => 0,
                    };
                    fetching.held = Some((position, looks, now + self.config.retry.delay(looks)));
                    break;
                }
            }
        }
        if let Some(Leave::Through(boundary)) = fetching.leaving.why() {
            if fetching.held.is_some() {
                // It is this reader's, which has not come to the boundary: nobody reads it but who holds the shard.
                fetching.leaving.stay();
            } else if state.ledger.read_up_to() < boundary {
                // Nothing else is there up to it.
                state.ledger.push_foreign(boundary);
            }
        }
        // A row that is held is not in hand, and there may be others behind it.
        state.ledger.read_to_the_end = read_to_the_end && fetching.held.is_none();
        drop(state);
        for (offset, error, kept) in unreadable {
            let fate = if kept {
                "it is moved to the dead-letter topic"
            } else {
                "the subscription holds before it"
            };
            let detail = format!("the row at offset {offset} cannot be read, {fate}");
            tracing::error!(topic = self.tables.topic(), group = self.config.group_name(), %error, "{detail}");
            self.shared.report(
                SubscribeError::new(SubscribeErrorKind::Undecodable, self.tables.topic())
                    .because(detail)
                    .with_source(error),
            );
        }
    }

    /// The connection for the next statement: the one that was kept, or another one. Whoever has it gives it
    /// to [`keep_for`](Self::keep_for) after a statement that succeeded, and drops it after one that failed.
    pub(super) async fn connect_for(&self, fetching: &mut Fetching<D>) -> Result<Kept<D>, Failure> {
        if let Some(kept) = fetching.connection.take() {
            return Ok(kept);
        }
        if let Some(cursor) = &mut fetching.cursor {
            cursor.lose_connection();
        }
        Ok(Kept::Pooled(Pooled::clean(&self.pool).await?))
    }

    /// Keeps a connection for the next statement, where nobody waits for it.
    pub(super) fn keep_for(&self, fetching: &mut Fetching<D>, mut connection: Kept<D>) {
        let now = Instant::now();
        if let Kept::Pooled(pooled) = &mut connection {
            pooled.settled();
        }
        if fetching.cursor.as_ref().is_some_and(|cursor| cursor.keeps_connection()) {
            // Others may need those of the pool to let this reader go on.
            let lasts = fetching.waiting.lasts(now);
            fetching.connection = Some(if lasts { connection.detach() } else { connection });
            fetching.kept_until = None;
            return;
        }
        fetching.kept_until = match &connection {
            Kept::Pooled(pooled) if pooled.may_be_kept(&self.pool, now) => Some(now + IDLE_MAX),
            _ => None,
        };
        fetching.connection = fetching.kept_until.map(|_| connection);
    }
}

/// Whether more rows are to be fetched.
pub(super) fn wants_rows(state: &State<LogLedger>) -> bool {
    !state.is_stopped() && state.ledger.wants_more()
}
