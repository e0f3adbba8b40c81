//! [`Step`]: the protocol of one atomic step, around whoever runs it.

use std::{error::Error, sync::Arc};

use tokio::time::sleep;
use watermill_core::{
    DeliveryInfo, Outputs,
    error::{BoxError, find},
};

use super::{
    InboxError, InboxErrorKind, Mark, OnDuplicate,
    joined::Ack,
    open::{Begun, Open},
    shared::Shared,
};
use crate::{
    SqlDatabase,
    connection::{Pooled, within},
    error::{Failure, Trouble},
    schema,
    topic::Tables,
};

/// One step. It is run as often as [`begin`](Self::begin) is called: once, and again when [`end`](Self::end) says so.
pub(super) struct Step<D: SqlDatabase> {
    shared: Arc<Shared<D>>,
    runs: u32,
    /// Whether a table was made for it, which is done once.
    has_made: bool,
}

/// How a run has ended, if not with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Committed,
    /// It was rolled back and is to be run again from the beginning.
    Again,
}

impl<D: SqlDatabase> Step<D> {
    pub(super) fn new(shared: Arc<Shared<D>>) -> Self {
        Self { shared, runs: 0, has_made: false }
    }

    /// Makes the table that a handler's outputs go to, where the transaction could not do that. What is wrong with it is
    /// found out by the step.
    pub(super) async fn see_to(&self, topic: Option<&str>) {
        let config = &self.shared.config.publishing;
        if D::CREATES_IN_TRANSACTION || !config.initialize_schema || self.shared.wrap.is_some() {
            return;
        }
        let Some(topic) = topic else { return };
        if let Ok(tables) = Tables::named::<D>(topic, config.schema_qualified)
            && self.shared.found(tables.topic()).is_none()
        {
            let _ = self.make(&tables).await;
        }
    }

    /// Begins a transaction in which these messages are marked. `deliveries` are theirs. `None` where all of it was done
    /// before, and nobody wants to be told.
    pub(super) async fn begin(
        &mut self,
        marks: &[Mark],
        deliveries: &[DeliveryInfo],
    ) -> Result<Begun<D>, BoxError> {
        self.runs += 1;
        refuse_lost(deliveries)?;
        let config = &self.shared.config;
        let mut ack = match config.joins_ack {
            true => Some(Ack::of::<D>(deliveries, config).map_err(InboxError::boxed)?),
            false => None,
        };
        let mut begun = self.open(marks, &mut ack).await?;
        if begun.is_none() && self.shared.config.on_duplicate == OnDuplicate::Tell {
            begun = self.open(&[], &mut ack).await?.map(|(open, _)| (open, vec![false]));
        }
        if let Some((open, is_new)) = &mut begun {
            open.is_duplicate = is_new.contains(&false);
            open.ack = ack;
        }
        Ok(begun)
    }

    /// Publishes what was returned and commits, or rolls back.
    pub(super) async fn end(
        &mut self,
        open: Option<Open<D>>,
        handled: Result<Outputs, BoxError>,
        own_topic: Option<&str>,
        deliveries: &[DeliveryInfo],
    ) -> Result<Ended, BoxError> {
        let Some(mut open) = open else {
            let why = "the handler has returned and kept the transaction";
            return Err(handled
                .err()
                .unwrap_or_else(|| InboxError::because(InboxErrorKind::Refused, why).boxed()));
        };
        let ready = match handled {
            Ok(outputs) => self.finish(&mut open, outputs, own_topic, deliveries).await,
            Err(error) => Err(error),
        };
        if let Err(error) = ready {
            let missing = open.missing.take();
            // Where that fails its connection is closed, which does the same.
            let _ = within(open.end_max(), open.rollback()).await;
            return self.failed(error, missing).await;
        }
        let mut ack = open.ack.take();
        if let Some(ack) = &mut ack {
            ack.committing();
        }
        match within(open.end_max(), open.commit()).await {
            Ok(()) => {
                if let Some(ack) = ack {
                    ack.committed();
                }
                open.close().await;
                Ok(Ended::Committed)
            }
            Err(failure) => {
                match D::FORGETS_BEGIN {
                    true => drop(open),
                    // It may be open still.
                    false => drop(within(open.end_max(), open.rollback()).await),
                }
                // Any other may have been done, or will be in a moment.
                let is_refused = failure.trouble() == Trouble::Conflict || !failure.is_passing();
                if let Some(ack) = ack.filter(|_| is_refused) {
                    ack.rolled_back();
                }
                self.failed(InboxError::at_the_end(failure).boxed(), None).await
            }
        }
    }

    /// What is left of a batch is a step of its own.
    pub(super) fn run_anew(&mut self) {
        self.runs = 0;
    }

    /// Again where somebody was in the way of the marks themselves.
    async fn open(&mut self, marks: &[Mark], ack: &mut Option<Ack>) -> Result<Begun<D>, BoxError> {
        loop {
            let error = match self.try_to_open(marks, ack.as_mut()).await {
                Ok(begun) => return Ok(begun),
                Err(error) => error.boxed(),
            };
            if let Some(ack) = ack {
                ack.let_go();
            }
            self.failed(error, None).await?;
            self.runs += 1;
        }
    }

    async fn try_to_open(&self, marks: &[Mark], ack: Option<&mut Ack>) -> Result<Begun<D>, InboxError> {
        let config = &self.shared.config;
        let open = within(config.timeout, Open::wait(&self.shared)).await.map_err(InboxError::around)?;
        let isolation = ack.as_ref().map_or(config.isolation, |ack| ack.isolation(config.isolation));
        // Where there is one writer, whoever records would wait for the transaction, which would wait for who records. It is
        // the last to be waited for, because the lease is not renewed from then on.
        if let Some(ack) = ack.filter(|_| D::ONE_WRITER) {
            ack.ready(config.timeout).await?;
        }
        within(config.timeout, open.begin(isolation, marks)).await.map_err(InboxError::around)
    }

    async fn finish(
        &self,
        open: &mut Open<D>,
        outputs: Outputs,
        own_topic: Option<&str>,
        deliveries: &[DeliveryInfo],
    ) -> Result<(), BoxError> {
        let checked = within(self.shared.config.timeout, open.check(!outputs.is_empty())).await;
        checked.map_err(|failure| InboxError::at_the_end(failure).boxed())?;
        open.publish(outputs, own_topic).await?;
        open.write_ack().await.map_err(InboxError::boxed)?;
        refuse_lost(deliveries)
    }

    /// Whether what was rolled back is to be run again.
    async fn failed(&mut self, error: BoxError, missing: Option<Tables>) -> Result<Ended, BoxError> {
        if let Some(tables) = missing
            && !std::mem::replace(&mut self.has_made, true)
            && self.make(&tables).await.is_ok()
        {
            return Ok(Ended::Again);
        }
        if self.runs >= self.shared.config.runs || !is_conflict::<D>(&*error) {
            return Err(error);
        }
        tracing::debug!(
            runs = self.runs,
            error = watermill_core::error::chain(&*error),
            "other transactions were in the way of a step, which is run again"
        );
        sleep(self.shared.config.backoff.delay(self.runs - 1)).await;
        Ok(Ended::Again)
    }

    /// Makes the table of a topic, where that ends a transaction.
    async fn make(&self, tables: &Tables) -> Result<(), Failure> {
        let config = &self.shared.config.publishing;
        within(config.timeout, async {
            let mut pooled = Pooled::clean(&self.shared.pool).await?;
            let made = schema::ensure_messages::<D>(
                pooled.get(),
                tables,
                config.layout,
                config.payload_column,
                true,
            );
            let made = made.await;
            pooled.settled();
            self.shared.remember([(tables.topic().to_owned(), made?)]);
            Ok(())
        })
        .await
    }
}

/// Whether the database has rolled back because of others, wherever in the error it says so.
fn is_conflict<D: SqlDatabase>(error: &(dyn Error + 'static)) -> bool {
    let native = find::<sqlx::Error>(error).and_then(sqlx::Error::as_database_error);
    native.is_some_and(D::is_conflict)
}

fn refuse_lost(deliveries: &[DeliveryInfo]) -> Result<(), BoxError> {
    match deliveries.iter().any(DeliveryInfo::is_lost) {
        true => Err(InboxError::because(InboxErrorKind::Lost, "another owner handles the message").boxed()),
        false => Ok(()),
    }
}
