//! [`SqlInbox`]: one transaction for a message's mark, what its handler writes and what it publishes.

use std::{fmt, sync::Arc};

use sqlx::Pool;
use watermill_core::{
    Message, Outputs, Publisher,
    error::{BoxError, ConfigError},
};

use super::{
    BatchInTransaction, InboxError, InboxLayer, Mark, SqlInboxConfig, Tx,
    retention::Task,
    shared::Shared,
    step::{Ended, Step},
    tx::Lent,
};
use crate::SqlDatabase;

/// Handles each message once, whatever dies in between: its mark, what its handler writes and what it publishes are one
/// transaction of the database, and the message is acked after the commit. The source may be any backend.
///
/// 1. A transaction begins, and the message is marked in the table `_watermill_inbox`: by consumer, topic and id. Where the
///    mark is there, the message is a duplicate: it is acked, and its handler does not run
///    ([`on_duplicate`](SqlInboxConfig::on_duplicate)). Another transaction that has the same message in hand is waited for.
/// 2. The handler runs. Its argument [`Tx`] is the transaction.
/// 3. What it returns is published into the transaction.
/// 4. The transaction is committed, unless the delivery was lost, and then the message is acked.
///
/// An error, a panic, a timeout, a lost delivery and outputs that cannot be published roll all of it back, and the
/// handler's [`FailurePolicy`](watermill_core::FailurePolicy) decides, each try of which has a transaction of its own. A
/// transaction that a deadlock or a failed serialization has rolled back is run again from the beginning, up to
/// [`runs`](SqlInboxConfig::runs) times in all. So a handler may run more than once before its effects are there once: what it does
/// outside of the transaction, an HTTP call for instance, it may do again.
///
/// The effect is exactly once in this database. What is published is exactly once in its tables, and from there at least
/// once, or as the relay says.
///
/// A message without an id has nothing to be known by: it is handled each time.
///
/// As a [`Plugin`](watermill_core::router::Plugin) of a router it deletes marks that are older than
/// [`keep_for`](SqlInboxConfig::keep_for), batch by batch.
pub struct SqlInbox<D: SqlDatabase> {
    pub(super) shared: Arc<Shared<D>>,
    /// The plugin's, while a router runs.
    pub(super) task: Task,
}

impl<D: SqlDatabase> SqlInbox<D> {
    /// An inbox in the database of `pool`. Nothing is sent before the first message. Each step takes a connection for as long as
    /// its handler runs.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] as [`SqlInboxConfig::validate`].
    pub fn new(pool: Pool<D>, config: SqlInboxConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self { shared: Arc::new(Shared::new(pool, config)), task: Task::default() })
    }

    /// Puts a publisher around the one that writes into the transaction: a forwarder's, say, whose envelopes a relay brings to
    /// a broker.
    ///
    /// ```
    /// # fn with_envelopes(inbox: watermill_sql::SqlInbox<impl watermill_sql::SqlDatabase>) {
    /// use watermill_forwarder::ForwarderPublisher;
    ///
    /// let inbox = inbox.publish_through(|tables| Box::new(ForwarderPublisher::new(tables)));
    /// # }
    /// ```
    #[must_use]
    pub fn publish_through<F>(self, wrap: F) -> Self
    where
        F: for<'p> Fn(&'p dyn Publisher) -> Box<dyn Publisher + 'p> + Send + Sync + 'static,
    {
        let shared = Shared { wrap: Some(Arc::new(wrap)), ..(*self.shared).clone() };
        Self { shared: Arc::new(shared), task: self.task }
    }

    /// A layer for handlers of single messages. Put it inside of layers that try again or limit the time, so that each
    /// try is a transaction of its own; the failure policy is outside of all layers anyway.
    pub fn layer(&self) -> InboxLayer<D> {
        InboxLayer::new(self.shared.clone())
    }

    /// One transaction for a whole batch: a function for [`Handler::batch`](watermill_core::Handler::batch). It takes the
    /// transaction and the messages, and the router's state if it likes:
    /// `async fn(Tx<Postgres>, Vec<Json<Order>>)` or `async fn(Tx<Postgres>, Vec<Json<Order>>, State<Prices>)`.
    ///
    /// Duplicates are not among the messages. Where some of the batch fail, with an outcome for each or because they could
    /// not be read, all of it is rolled back and run again without them; so the others wait for nothing, and the failed ones
    /// are the policy's.
    pub fn batch<F>(&self, function: F) -> BatchInTransaction<D, F> {
        BatchInTransaction::new(self.shared.clone(), function)
    }

    /// Runs a step for a message once, without a router: `None` when it was done before. See the type for what is
    /// committed together.
    ///
    /// ```
    /// # use watermill_core::{Message, error::BoxError};
    /// # use watermill_sql::SqlInbox;
    /// # async fn handle(inbox: SqlInbox<sqlx::Sqlite>, message: Message) -> Result<(), BoxError> {
    /// let id = inbox
    ///     .once(&message, async |mut tx| {
    ///         sqlx::query("insert into invoices values ($1)").bind("i-1").execute(&mut *tx).await?;
    ///         tx.publish("invoices.due", Message::new("i-1")).await?;
    ///         Ok("i-1")
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of `step`, a [`PublishError`](watermill_core::error::PublishError), or an [`InboxError`]; nothing was written then.
    /// Ack the message when there is none.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the transaction is rolled back, unless the commit was on its way, which may be done. Run it again with the
    /// same message to know.
    pub async fn once<T, F>(
        &self,
        message: &Message,
        mut step: impl FnMut(Tx<D>) -> F,
    ) -> Result<Option<T>, BoxError>
    where
        F: Future<Output = Result<T, BoxError>>,
    {
        let marks: Vec<_> =
            Mark::of(message, &self.shared.config).map_err(InboxError::boxed)?.into_iter().collect();
        let deliveries: Vec<_> = message.delivery().cloned().into_iter().collect();
        let mut protocol = Step::new(self.shared.clone());
        loop {
            let Some((open, _)) = protocol.begin(&marks, &deliveries).await? else { return Ok(None) };
            let lent = Lent::new(open);
            let (returned, handled) = match step(lent.lend()?).await {
                Ok(returned) => (Some(returned), Ok(Outputs::none())),
                Err(error) => (None, Err(error)),
            };
            if protocol.end(lent.take_back(), handled, None, &deliveries).await? == Ended::Committed {
                return Ok(returned);
            }
        }
    }
}

impl<D: SqlDatabase> Clone for SqlInbox<D> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), task: Task::default() }
    }
}

impl<D: SqlDatabase> fmt::Debug for SqlInbox<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SqlInbox").field(&self.shared).finish()
    }
}
