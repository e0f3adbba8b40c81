//! [`Transactional`]: what a handler writes and what it returns are committed together.

use std::{
    fmt, mem,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use sqlx::{Sqlite, SqliteConnection, SqlitePool, Transaction};
use tower::{Layer, Service};
use watermill_core::{
    DeliveryInfo, Message, Outputs, Publisher,
    error::{BoxError, Nack, Permanent},
    router::{Extract, Promise, Required},
};
use watermill_sql::SqlPublisher;

/// Opens a transaction for each message, hands it to the handler as a [`Tx`], publishes the handler's outputs
/// into tables of the same database, and commits: the rows and the outputs are there, or neither is.
///
/// An error, a panic, outputs that cannot be published, and a delivery that the subscription has lost
/// meanwhile roll it all back. The message is acked after the commit. A process that dies in between handles
/// it again, so a handler that must not do a thing twice writes the message's id into a table with a unique
/// index, in the same transaction.
///
/// Put it inside of layers that try again: each try is a transaction of its own. The handler's destination is
/// a topic without a publisher, [`Handler::to_topic`](watermill_core::Handler::to_topic).
#[derive(Clone, Debug)]
pub struct Transactional {
    pool: SqlitePool,
}

impl Transactional {
    /// Takes a connection of `pool` for as long as a message is handled.
    pub fn new(pool: SqlitePool) -> Self {
        Self { pool }
    }
}

impl<S> Layer<S> for Transactional {
    type Service = TransactionalService<S>;

    fn layer(&self, inner: S) -> TransactionalService<S> {
        Promise::publishes();
        Promise::provides::<Tx>();
        TransactionalService { inner, pool: self.pool.clone() }
    }
}

/// The service that [`Transactional`] makes.
#[derive(Clone, Debug)]
pub struct TransactionalService<S> {
    inner: S,
    pool: SqlitePool,
}

impl<S> Service<Message> for TransactionalService<S>
where
    S: Service<Message, Response = Outputs> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    type Response = Outputs;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Outputs, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, message: Message) -> Self::Future {
        // The service that was found ready is the one to call; its clone may not be ready.
        let clone = self.inner.clone();
        let inner = mem::replace(&mut self.inner, clone);
        Box::pin(handle(inner, self.pool.clone(), message))
    }
}

async fn handle<S>(mut inner: S, pool: SqlitePool, message: Message) -> Result<Outputs, BoxError>
where
    S: Service<Message, Response = Outputs>,
    S::Error: Into<BoxError>,
{
    let delivery = message.delivery().cloned();
    let topic = message.handler().and_then(|handler| handler.publish_topic.clone());
    // Whoever leaves this function early, by `?` or by a panic, drops the transaction, which rolls it back.
    // Immediate, because SQLite refuses a transaction that begins to write after somebody else has written.
    let lent = Lent::new(pool.begin_with("BEGIN IMMEDIATE").await?);
    let outputs = inner.call(message.with_extension(lent.clone())).await.map_err(Into::into)?;
    // What a layer inside says of the message is passed on, the messages are not.
    let answer = outputs.without_messages();
    let mut transaction = lent.take().ok_or("commit: the handler has returned and kept the transaction")?;

    let publisher = SqlPublisher::in_transaction(&mut transaction);
    for (topic, messages) in outputs.by_topic(topic.as_deref())? {
        publisher.publish(&topic, messages).await?;
    }
    drop(publisher);

    if delivery.as_ref().is_some_and(DeliveryInfo::is_lost) {
        return Err(Nack::new("commit: the delivery was lost, another owner handles the message").into());
    }
    transaction.commit().await?;
    Ok(answer)
}

/// The transaction on its way between the layer and the handler: the message carries it as an extension.
#[derive(Clone)]
struct Lent(Arc<Mutex<Option<Transaction<'static, Sqlite>>>>);

impl Lent {
    fn new(transaction: Transaction<'static, Sqlite>) -> Self {
        Self(Arc::new(Mutex::new(Some(transaction))))
    }

    fn take(&self) -> Option<Transaction<'static, Sqlite>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn give_back(&self, transaction: Option<Transaction<'static, Sqlite>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = transaction;
    }
}

/// The transaction of the message that is being handled, as an argument of its handler. Dropped, it goes
/// back to the [`Transactional`] layer, which commits it once the handler has succeeded.
pub struct Tx {
    /// `None` only while it is dropped.
    transaction: Option<Transaction<'static, Sqlite>>,
    lent: Lent,
}

impl<S> Extract<S> for Tx {
    type Rejection = Permanent;

    fn extract(message: &Message, _state: &S) -> Result<Self, Permanent> {
        let lent = message.extensions().get::<Lent>().cloned().ok_or_else(|| {
            Permanent::new("find the transaction of the message; is the `Transactional` layer installed?")
        })?;
        let transaction = lent
            .take()
            .ok_or_else(|| Permanent::new("take the transaction: another argument of the handler has it"))?;
        Ok(Self { transaction: Some(transaction), lent })
    }

    fn required() -> Option<Required> {
        Some(Required::of::<Self>("put the layer `Transactional` around the handler"))
    }
}

impl Deref for Tx {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        self.transaction.as_deref().expect("it is there until it is dropped")
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        self.transaction.as_deref_mut().expect("it is there until it is dropped")
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        self.lent.give_back(self.transaction.take());
    }
}

impl fmt::Debug for Tx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx").finish_non_exhaustive()
    }
}
