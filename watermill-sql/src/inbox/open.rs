//! [`Open`]: the transaction of a step.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use sqlx::{AssertSqlSafe, SqlSafeStr as _};
use sqlx_core::transaction::TransactionManager as _;
use tokio::{sync::OwnedMutexGuard, task::unconstrained};
use watermill_core::error::find;

use super::{Beginning, InboxError, Isolation, Mark, joined::Ack, shared::Shared};
use crate::{
    SqlDatabase,
    connection::{Pooled, within},
    error::{Failure, Trouble, classify},
    schema::Found,
    topic::Tables,
    wake,
};

/// A transaction of ours. Dropped without its end it is rolled back: with its connection, of which nobody knows what it
/// waits for, or, where that is a thread of this process, by itself.
pub(crate) struct Open<D: SqlDatabase> {
    pooled: Option<Pooled<D>>,
    pub(super) shared: Arc<Shared<D>>,
    /// The turn of this writer, where there is one at a time.
    turn: Option<OwnedMutexGuard<()>>,
    /// The topics that were published to, and what was found out about their tables.
    pub(super) topics: BTreeMap<String, Found>,
    /// A table that has to be made first, outside of the transaction.
    pub(super) missing: Option<Tables>,
    pub(super) is_duplicate: bool,
    /// Of an ack that is part of it.
    pub(super) ack: Option<Ack>,
    /// Whether its silence is bounded by what the session has.
    is_bounded: bool,
    /// The length of the lease whose renewals wait for its end.
    lease: Option<Duration>,
}

/// Why there is nothing to commit.
const IS_OVER: &str = "the transaction is over, or a statement of it has failed and the handler went on: let the handler \
                       return the error, and leave begin, commit and rollback to the inbox";

/// A transaction, and for each of its marks whether that is new; `None` where there is one and it was there.
pub(super) type Begun<D> = Option<(Open<D>, Vec<bool>)>;

impl<D: SqlDatabase> Open<D> {
    /// What there is to wait for before it begins: the turn, and a connection.
    pub(super) async fn wait(shared: &Arc<Shared<D>>) -> Result<Self, Failure> {
        shared.prepare().await?;
        let turn = match D::ONE_WRITER {
            // The place in the queue is taken by the first poll, whatever is left of the task's budget.
            true => Some(unconstrained(shared.known.writing.clone().lock_owned()).await),
            false => None,
        };
        // A transaction that somebody has left open there is refused by the server, or ended with ours.
        let pooled = match shared.known.spares.take() {
            Some(spare) => spare,
            None => Pooled::of(&shared.pool).await?,
        };
        Ok(Self {
            pooled: Some(pooled),
            shared: shared.clone(),
            turn,
            topics: BTreeMap::new(),
            missing: None,
            is_duplicate: false,
            ack: None,
            is_bounded: false,
            lease: None,
        })
    }

    /// Begins, and marks: as a rule with one message to the server.
    pub(super) async fn begin(mut self, isolation: Isolation, marks: &[Mark]) -> Result<Begun<D>, Failure> {
        if D::MARKS_IN_BEGIN {
            match self.start(isolation, marks).await {
                Ok(()) => return Ok(Some((self, vec![true; marks.len()]))),
                Err(error) if !is_duplicate(&error) => return Err(classify::<D>(error)),
                // Begun it was, though sqlx does not count it.
                Err(_) => D::run_text(self.connection(), "rollback").await.map_err(classify::<D>)?,
            }
            if marks.len() == 1 {
                self.give_back();
                return Ok(None);
            }
        }
        self.start(isolation, &[]).await.map_err(classify::<D>)?;
        let mut is_new = Vec::with_capacity(marks.len());
        for mark in marks {
            is_new.push(D::mark(self.connection(), mark).await.map_err(classify::<D>)?);
        }
        if is_new == [false] {
            self.rollback().await?;
            return Ok(None);
        }
        Ok(Some((self, is_new)))
    }

    async fn start(&mut self, isolation: Isolation, marks: &[Mark]) -> sqlx::Result<()> {
        let beginning = Beginning { isolation, silence: self.shared.config.idle_timeout, marks };
        let text = AssertSqlSafe(D::begin_step(&beginning)).into_sql_str();
        D::TransactionManager::begin(self.connection(), Some(text)).await
    }

    /// For a statement.
    pub(super) fn connection(&mut self) -> &mut D::Connection {
        self.pooled.as_mut().expect("it is there until the end").get()
    }

    pub(super) fn connection_ref(&self) -> &D::Connection {
        self.pooled.as_ref().expect("it is there until the end").peek()
    }

    /// Refuses to commit what is not there any more: of a transaction in which a statement has failed PostgreSQL commits
    /// nothing and calls that a success, and what follows a deadlock MySQL does at once and for good. Where something else
    /// is written before the commit that tells the same, the server is not asked.
    pub(super) async fn check(&mut self, has_outputs: bool) -> Result<(), Failure> {
        let tells = match has_outputs {
            true => D::OUTPUTS_TELL,
            false => match self.ack {
                Some(Ack::Log(_)) => D::LOG_ACK_TELLS,
                Some(Ack::Queue(_)) => false,
                None => D::COMMIT_TELLS,
            },
        };
        let goes_on = tells || D::goes_on(self.connection()).await.map_err(classify::<D>)?;
        match goes_on && D::TransactionManager::get_transaction_depth(self.connection_ref()) == 1 {
            true => Ok(()),
            false => Err(Failure::because(Trouble::Refused, IS_OVER)),
        }
    }

    /// Acks what is handled, where that is part of the transaction.
    pub(super) async fn write_ack(&mut self) -> Result<(), InboxError> {
        let Some(mut ack) = self.ack.take() else { return Ok(()) };
        let written = self.write_out(&mut ack).await;
        self.ack = Some(ack);
        written
    }

    async fn write_out(&mut self, ack: &mut Ack) -> Result<(), InboxError> {
        let mut limit = self.shared.config.timeout;
        self.lease = ack.ready(limit).await?;
        if let Some(silence) = self.lease {
            limit = limit.min(silence / 2);
            // Whatever becomes of it: nobody knows where it fails.
            self.is_bounded = D::STEP_BOUNDS_SESSION;
        }
        ack.write::<D>(self.connection(), limit).await.map_err(|error| match is_over::<D>(&error) {
            true => InboxError::at_the_end(Failure::because(Trouble::Refused, IS_OVER)),
            false => error,
        })
    }

    /// For how long its end may be waited for: others wait for it, too, once an ack is part of it.
    pub(super) fn end_max(&self) -> Duration {
        let timeout = self.shared.config.timeout;
        self.lease.map_or(timeout, |lease| timeout.min(lease))
    }

    /// Commits, and tells the readers of what was published. An error without an answer leaves it unknown whether it
    /// was done.
    pub(super) async fn commit(&mut self) -> Result<(), Failure> {
        D::TransactionManager::commit(self.connection()).await.map_err(|error| {
            match error.as_database_error() {
                Some(said) if D::is_over(said) => Failure::because(Trouble::Refused, IS_OVER),
                Some(_) => classify::<D>(error),
                None => classify::<D>(error).with_trouble(Trouble::Timeout),
            }
        })?;
        let topics = std::mem::take(&mut self.topics);
        topics.keys().for_each(|topic| wake::wake(topic));
        self.shared.remember(topics);
        Ok(())
    }

    /// Gives back what is committed. A connection that is not answered on is closed.
    pub(super) async fn close(mut self) {
        if within(self.shared.config.timeout, self.unbound()).await.is_ok() {
            self.give_back();
        }
    }

    async fn unbound(&mut self) -> Result<(), Failure> {
        match std::mem::take(&mut self.is_bounded) {
            true => D::end(self.connection()).await.map_err(classify::<D>),
            false => Ok(()),
        }
    }

    /// Rolls back; the connection is as good as before.
    pub(super) async fn rollback(mut self) -> Result<(), Failure> {
        while D::TransactionManager::get_transaction_depth(self.connection_ref()) > 0 {
            let Err(error) = D::TransactionManager::rollback(self.connection()).await else { continue };
            if D::FORGETS_BEGIN {
                return Err(classify::<D>(error));
            }
            // The handler has ended it. SQLite wants one to be open, for sqlx to know that it is over.
            D::run_text(self.connection(), "begin").await.map_err(classify::<D>)?;
            D::TransactionManager::rollback(self.connection()).await.map_err(classify::<D>)?;
        }
        self.unbound().await?;
        self.give_back();
        Ok(())
    }

    fn give_back(&mut self) {
        if let Some(pooled) = self.pooled.take() {
            self.shared.known.spares.keep(pooled);
        }
        self.turn = None;
    }
}

fn is_duplicate(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

/// Whether the server has said that there is no transaction.
fn is_over<D: SqlDatabase>(error: &InboxError) -> bool {
    let native = find::<sqlx::Error>(error).and_then(sqlx::Error::as_database_error);
    native.is_some_and(D::is_over)
}

impl<D: SqlDatabase> Drop for Open<D> {
    fn drop(&mut self) {
        let Some(pooled) = self.pooled.as_mut().filter(|_| !D::FORGETS_BEGIN) else { return };
        let connection = pooled.get();
        // It is done later, one for each level.
        for _ in 0..D::TransactionManager::get_transaction_depth(connection) {
            D::TransactionManager::start_rollback(connection);
        }
    }
}
