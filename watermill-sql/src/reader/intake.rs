//! Fetching rows.

use std::time::Duration;

use tokio::time::Instant;
use watermill_core::error::{SubscribeError, SubscribeErrorKind};

use super::{Reader, Term};
use crate::{dialect::Dialect, error::Failure, marshaler::Row, settle::refill_below};

impl<D: Dialect> Reader<D> {
    pub(super) fn wants_rows(&self) -> bool {
        let state = self.desk.lock();
        let bound = self.config.max_ahead.max(state.ledger.window().size() + self.config.batch_size);
        !state.stopped
            && state.ledger.fresh() < refill_below(self.config.batch_size)
            && state.ledger.span() < bound
    }

    pub(super) async fn fetch(&self, term: &mut Term) -> Result<(), Failure> {
        let after = self.desk.lock().ledger.read_up_to();
        let mut connection = self.connect().await?;
        let rows = D::fetch(&mut connection, &self.tables, after, self.config.batch_size)
            .await
            .map_err(Failure::of::<D>)?;
        drop(connection);
        let now = Instant::now();
        if rows.is_empty() {
            // A row that was held may have been deleted.
            term.held = None;
            term.poll_at = now + term.poll_interval;
            term.poll_interval = (term.poll_interval * 2).min(self.config.poll_interval_max);
        } else {
            term.poll_interval = self.config.poll_interval_min;
            // A full batch has a next one.
            let pause = if rows.len() < self.config.batch_size { term.poll_interval } else { Duration::ZERO };
            term.poll_at = now + pause;
        }
        if !rows.is_empty() {
            self.take_in(term, rows, now);
            self.desk.wake_reader();
        }
        Ok(())
    }

    fn take_in(&self, term: &mut Term, rows: Vec<Row>, now: Instant) {
        let mut unreadable = Vec::new();
        let held_before = term.held.take();
        let mut state = self.desk.lock();
        for Row { offset, published_at, columns } in rows {
            match columns.decode() {
                Ok(message) => state.ledger.push(offset, message, published_at),
                Err(error) => {
                    let reason = error.to_string();
                    let kept = self.dead_letters.is_some();
                    unreadable.push((offset, error, kept));
                    if kept {
                        state.ledger.push_dead(offset, columns.remains(), reason, now);
                        continue;
                    }
                    let looks = match held_before {
                        Some((at, looks, _)) if at == offset => looks + 1,
                        _ => 0,
                    };
                    term.held = Some((offset, looks, now + self.config.retry.delay(looks)));
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
