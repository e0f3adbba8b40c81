//! Fetching rows.

use std::time::Duration;

use tokio::time::Instant;
use watermill_core::error::{SubscribeError, SubscribeErrorKind};

use super::{Reader, Term};
use crate::{
    dialect::{Dialect, Fetched},
    error::Failure,
    ledger::Ledger,
    marshaler::{Row, Unreadable},
    settle::{Hand, State},
};

impl<D: Dialect> Reader<D> {
    pub(super) fn wants_rows(&self, state: &State<Ledger>) -> bool {
        let bound = self.config.max_ahead.max(state.hand.window().per_scope() + self.config.batch_size);
        !state.stopped
            && state.hand.fresh() < state.hand.refill_below(self.config.batch_size)
            && state.hand.span() < bound
    }

    pub(super) async fn fetch(&self, term: &mut Term<D>) -> Result<(), Failure> {
        let after = self.desk.lock().hand.read_up_to();
        let mut connection = self.connect_for(term).await?;
        let cursor = match &mut term.cursor {
            Some(cursor) => cursor,
            none => none.insert(D::open_cursor(connection.get(), &self.tables, &self.config).await?),
        };
        let fetched = D::fetch(connection.get(), &self.tables, cursor, after, self.config.batch_size).await;
        if fetched.is_err() {
            // The server, or the table, may be another by now: check again what was checked at the start.
            term.cursor = None;
        }
        let Fetched { rows, more, holder } = fetched.map_err(Failure::of::<D>)?;
        let now = Instant::now();
        term.waiting.note(&self.desk, self.tables.topic(), self.config.group_name(), holder, now);
        self.keep(term, connection);
        if rows.is_empty() {
            // A row that was held may have been deleted.
            term.held = None;
            term.poll_at = now + term.poll_interval;
            term.poll_interval = (term.poll_interval * 2).min(self.config.poll_interval_max);
        } else {
            term.poll_interval = self.config.poll_interval_min;
            let pause = if more { Duration::ZERO } else { term.poll_interval };
            term.poll_at = now + pause;
        }
        if !rows.is_empty() {
            self.take_in(term, rows, now);
            self.desk.wake_reader();
        }
        Ok(())
    }

    fn take_in(&self, term: &mut Term<D>, rows: Vec<Row>, now: Instant) {
        let mut unreadable = Vec::new();
        let held_before = term.held.take();
        let mut state = self.desk.lock();
        for Row { position, published_at, message } in rows {
            match message {
                Ok(message) => state.hand.push(position, message, published_at),
                Err(Unreadable { error, remains }) => {
                    let reason = error.to_string();
                    let kept = self.dead_letters.is_some();
                    unreadable.push((position.offset, error, kept));
                    if kept {
                        state.hand.push_dead(position, remains, reason, now);
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
        drop(state);
        for (offset, error, kept) in unreadable {
            let fate = if kept {
                "it is moved to the dead-letter topic"
            } else {
                "the subscription holds before it"
            };
            let detail = format!("the row at offset {offset} cannot be read, {fate}");
            tracing::error!(topic = self.tables.topic(), group = self.config.group_name(), %error, "{detail}");
            self.desk.report(
                SubscribeError::new(SubscribeErrorKind::Undecodable, self.tables.topic())
                    .because(detail)
                    .with_source(error),
            );
        }
    }
}
