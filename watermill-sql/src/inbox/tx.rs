//! [`Tx`]: the transaction in the hands of a handler.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
};

use watermill_core::{
    Message, Outputs,
    error::{BoxError, Permanent},
    router::{Extract, Required, topology::Documented},
};

use super::open::Open;
use crate::SqlDatabase;

/// The transaction of the message that is being handled: an argument of the handler, used as `&mut *tx` where sqlx takes
/// a connection. An [`InboxLayer`](crate::InboxLayer) has begun it, and commits it when the handler has succeeded.
///
/// What fails in it fails the step: return the error. On PostgreSQL nothing can be done in a transaction after a statement
/// that has failed, unless that was in a savepoint of its own (`tx.begin()`, which sqlx makes one of here). Leave `begin`,
/// `commit` and `rollback` as texts of SQL to the inbox.
///
/// Dropped, it goes back to whoever commits it. A handler that keeps it, in a task of its own for instance, has failed.
pub struct Tx<D: SqlDatabase> {
    /// `None` only while it is dropped.
    open: Option<Open<D>>,
    lent: Lent<D>,
}

impl<D: SqlDatabase> Tx<D> {
    /// Publishes a message, or several, in the transaction: into the table of `topic`, or wherever
    /// [`SqlInbox::publish_through`](crate::SqlInbox::publish_through) says.
    ///
    /// # Errors
    ///
    /// A [`PublishError`](watermill_core::error::PublishError), to be returned: the transaction may not go on after it.
    pub async fn publish(&mut self, topic: &str, messages: impl Into<Outputs>) -> Result<(), BoxError> {
        let messages = messages.into();
        self.open.as_mut().expect(THERE).publish(messages, Some(topic)).await
    }

    /// Whether the message was handled before. Only with [`OnDuplicate::Tell`](crate::OnDuplicate::Tell) such a message gets
    /// to its handler.
    pub fn is_duplicate(&self) -> bool {
        self.open.as_ref().expect(THERE).is_duplicate
    }
}

const THERE: &str = "it is there until it is dropped";

/// The transaction on its way between the inbox and the handler: the message carries it as an extension.
pub(crate) struct Lent<D: SqlDatabase>(Arc<Mutex<Slot<D>>>);

enum Slot<D: SqlDatabase> {
    There(Open<D>),
    Out,
    /// It was taken and has come back.
    Back(Open<D>),
}

impl<D: SqlDatabase> Lent<D> {
    pub(super) fn new(open: Open<D>) -> Self {
        Self(Arc::new(Mutex::new(Slot::There(open))))
    }

    /// Hands it to the handler, once.
    pub(super) fn lend(&self) -> Result<Tx<D>, Permanent> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *slot, Slot::Out) {
            Slot::There(open) => Ok(Tx { open: Some(open), lent: self.clone() }),
            Slot::Out => Err(Permanent::new("take the transaction: another argument of the handler has it")),
            Slot::Back(open) => {
                *slot = Slot::Back(open);
                Err(Permanent::new(
                    "take the transaction again, in which a try has written already: put layers that try again \
                     outside of the inbox, so that each try has a transaction of its own",
                ))
            }
        }
    }

    /// Takes it back for good; `None` when the handler has kept it.
    pub(super) fn take_back(&self) -> Option<Open<D>> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *slot, Slot::Out) {
            Slot::There(open) | Slot::Back(open) => Some(open),
            Slot::Out => None,
        }
    }
}

impl<D: SqlDatabase, S> Extract<S> for Tx<D> {
    type Rejection = Permanent;

    fn extract(message: &Message, _state: &S) -> Result<Self, Permanent> {
        let lent = message.extensions().get::<Lent<D>>().ok_or_else(|| {
            Permanent::new(
                "find the transaction of the message; is the layer of an `SqlInbox` around the handler?",
            )
        })?;
        lent.lend()
    }

    fn required() -> Option<Required> {
        Some(Required::of::<Self>("put the layer of an `SqlInbox` of the same database around the handler"))
    }
}

/// It is no payload.
impl<D: SqlDatabase> Documented for Tx<D> {}

impl<D: SqlDatabase> Deref for Tx<D> {
    type Target = D::Connection;

    fn deref(&self) -> &D::Connection {
        self.open.as_ref().expect(THERE).connection_ref()
    }
}

impl<D: SqlDatabase> DerefMut for Tx<D> {
    fn deref_mut(&mut self) -> &mut D::Connection {
        self.open.as_mut().expect(THERE).connection()
    }
}

impl<D: SqlDatabase> Drop for Tx<D> {
    fn drop(&mut self) {
        let mut slot = self.lent.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = self.open.take() {
            *slot = Slot::Back(open);
        }
    }
}

impl<D: SqlDatabase> Clone for Lent<D> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<D: SqlDatabase> fmt::Debug for Tx<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx").field("database", &D::NAME).finish_non_exhaustive()
    }
}
