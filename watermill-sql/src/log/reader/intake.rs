//! Fetching rows.

use std::time::Duration;

use tokio::time::Instant;
use watermill_core::{
    backend::{Ledger as _, State},
    error::{SubscribeError, SubscribeErrorKind},
};

use super::{Reader, Term};
use crate::{
    error::{Failure, classify},
    log::{
        dialect::{Fetched, LogDialect},
        last_row,
        ledger::LogLedger,
    },
    marshaler::Unreadable,
    stored::Row,
};

impl<D: LogDialect> Reader<D> {
    pub(super) async fn fetch(&self, term: &mut Term<D>) -> Result<(), Failure> {
        let after = self.shared.lock().ledger.read_up_to();
        let mut connection = self.connect_for(term).await?;
        let cursor = match &mut term.cursor {
            Some(cursor) => cursor,
            none => none.insert(D::open_cursor(connection.get(), &self.tables, &self.config).await?),
        };
        let asked = Instant::now();
        if asked >= term.check_at {
            last_row::check_and_note::<D>(connection.get(), &self.config, cursor, &term.lease).await?;
            term.check_at = asked + self.config.lease / 3;
        }
        let fetched = D::fetch(connection.get(), &self.tables, cursor, after, self.config.batch_size).await;
        if fetched.is_err() {
            // The server, or the table, may be another by now: check again what was checked at the start.
            term.cursor = None;
        }
        let Fetched { rows, more, undecided, holder } = fetched.map_err(classify::<D>)?;
        let now = Instant::now();
        let read_to_the_end = !more && !undecided;
        term.waiting.note(&self.shared, self.tables.topic(), self.config.group_name(), holder, now);
        self.keep(term, connection);
        if rows.is_empty() {
            term.poll_at = now + term.poll_interval;
            term.poll_interval = (term.poll_interval * 2).min(self.config.poll_interval_max);
        } else {
            term.poll_interval = self.config.poll_interval_min;
            let pause = if more { Duration::ZERO } else { term.poll_interval };
            term.poll_at = now + pause;
        }
        let has_come = !rows.is_empty();
        self.take_in(term, rows, read_to_the_end, now);
        if has_come {
            self.shared.wake_stream();
        }
        Ok(())
    }

    fn take_in(&self, term: &mut Term<D>, rows: Vec<Row>, read_to_the_end: bool, now: Instant) {
        let mut unreadable = Vec::new();
        // It may have been deleted.
        let held_before = term.held.take();
        let mut state = self.shared.lock();
        for Row { position, published_at, message } in rows {
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
                    term.held = Some((position, looks, now + self.config.retry.delay(looks)));
                    break;
                }
            }
        }
        // A row that is held is not in hand, and there may be others behind it.
        state.ledger.read_to_the_end = read_to_the_end && term.held.is_none();
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
}

/// Whether more rows are to be fetched.
pub(super) fn wants_rows(state: &State<LogLedger>) -> bool {
    !state.is_stopped() && state.ledger.wants_more()
}
