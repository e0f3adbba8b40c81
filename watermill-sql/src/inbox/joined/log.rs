//! [`LogAck`]: a group's position that moves with the commit, or a message that is noted as done ahead of it.
//!
//! It is written last, by one step of a subscription at a time, so handlers run side by side and only their commits wait for each
//! other. The fence is in the transaction: the position moves only where the lease's token and the position are those that
//! we know, and until the commit nobody else can change either.

use std::{sync::Arc, time::Duration};

use tokio::sync::OwnedMutexGuard;
use watermill_core::{
    DeliveryInfo,
    backend::{Settler, Shared},
    delivery::Token,
};

use super::lost;
use crate::{
    SqlDatabase,
    connection::within,
    error::Trouble,
    inbox::{InboxError, InboxErrorKind, Isolation},
    log::{LogLedger, Recorder, Recording, Save},
};

/// What has read the messages of a log.
type Source = Shared<LogLedger>;

/// The place of a step's messages in their log.
pub(in crate::inbox) struct LogAck {
    source: Arc<Source>,
    recorder: Arc<Recorder>,
    tokens: Vec<Token>,
    recording: Option<OwnedMutexGuard<Recording>>,
    /// What was written.
    save: Option<Save>,
    is_committing: bool,
}

impl LogAck {
    /// That of deliveries; `None` where they are not of a log.
    pub(super) fn of<D: SqlDatabase>(
        deliveries: &[DeliveryInfo],
        isolation: Isolation,
    ) -> Result<Option<Self>, InboxError> {
        let refuse = |why: &str| Err(InboxError::because(InboxErrorKind::Config, why));
        let mut found: Option<(Arc<Source>, Arc<Recorder>)> = None;
        let mut tokens = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            let Some(settler) = delivery.origin().settler::<Settler<Source>>() else { return Ok(None) };
            let (source, token) = (settler.source(), delivery.token());
            let recorder = match source.lock().ledger.joinable(token) {
                Ok(recorder) => recorder,
                Err(Some(why)) => return refuse(why),
                Err(None) => return Err(lost()),
            };
            tokens.push(token);
            match &found {
                None => found = Some((source.clone(), recorder)),
                Some((first, _)) if Arc::ptr_eq(first, source) => {}
                Some(_) => {
                    return refuse("joins_ack: the messages of a batch come from different subscriptions");
                }
            }
        }
        let Some((source, recorder)) = found else { return Ok(None) };
        if recorder.database != D::NAME {
            return refuse(
                "joins_ack: the message comes from another kind of database; without it a mark is kept",
            );
        }
        if !D::joins_log(isolation) {
            return refuse(
                "joins_ack: the lease of a log is renewed while its steps run, and a transaction above read committed cannot \
                 go on behind that; set read committed, or leave joins_ack off, so that a mark is kept",
            );
        }
        Ok(Some(Self { source, recorder, tokens, recording: None, save: None, is_committing: false }))
    }

    /// Waits for the right to record.
    pub(super) async fn hold(&mut self, limit: Duration) -> Result<(), InboxError> {
        if self.recording.is_none() {
            let recording = self.recorder.join(limit).await.map_err(InboxError::around)?;
            self.recording = Some(recording.ok_or_else(lost)?);
        }
        Ok(())
    }

    pub(super) fn let_go(&mut self) {
        self.recording = None;
    }

    /// For how long the transaction may be silent once this is in it, behind which all wait who want the lease.
    pub(super) fn silence(&self) -> Option<Duration> {
        self.recording.as_ref().map(|recording| recording.lease.length)
    }

    /// Records these deliveries as acked, and with them whatever else is settled.
    pub(super) async fn write<D: SqlDatabase>(
        &mut self,
        connection: &mut D::Connection,
        limit: Duration,
    ) -> Result<(), InboxError> {
        self.hold(limit).await?;
        let Some(recording) = &mut self.recording else { return Err(lost()) };
        let save = self.source.lock().ledger.save_with(&self.tokens).ok_or_else(lost)?;
        let save = self.save.insert(save);
        match within(
            limit,
            self.recorder.write::<D>(connection, recording, save, Some(recording.lease.length)),
        )
        .await
        {
            Ok(true) => Ok(()),
            Ok(false) => Err(lost()),
            // No fault of this step's, which succeeds with less of it.
            Err(failure) if self.recorder.keeps_less(recording, &failure) => {
                Err(InboxError::at_the_ack(failure.with_trouble(Trouble::Unavailable)))
            }
            Err(failure) => Err(InboxError::at_the_ack(failure)),
        }
    }

    pub(super) fn committing(&mut self) {
        self.is_committing = true;
    }

    pub(super) fn committed(mut self) {
        self.is_committing = false;
        if let (Some(save), Some(recording)) = (self.save.take(), &mut self.recording) {
            let is_news = self.source.lock().ledger.joined(&self.recorder, recording, save, &self.tokens);
            if is_news {
                self.source.wake_stream();
            }
        }
    }

    pub(super) fn rolled_back(mut self) {
        self.is_committing = false;
    }
}

impl Drop for LogAck {
    fn drop(&mut self) {
        if self.is_committing
            && let Some(recording) = &mut self.recording
        {
            recording.end();
        }
        if let Some(save) = self.save.take() {
            self.source.lock().ledger.not_joined(&self.recorder, save);
        }
    }
}
