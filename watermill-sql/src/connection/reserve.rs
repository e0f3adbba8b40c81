//! [`Reserve`]: a connection for what must not wait for handlers.

use std::{ops::DerefMut, time::Duration};

use sqlx::{Connection as _, Pool};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::timeout,
};

use super::{ConnectionDialect, Pooled};
use crate::error::{Failure, Trouble, classify};

/// How long the pool is asked for a connection while there is one beside it.
const PATIENCE_MIN: Duration = Duration::from_millis(10);

/// How long the server is waited for when that connection is closed; it notices anyway.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// The pool, and one more connection when all of it is taken. Handlers may have every connection that there is,
/// for as long as they like; but who does not renew what is in hand loses it, and repeats it.
///
/// That connection is made when it is needed, with the options of the pool's, and closed when the pool has some to
/// lend again. All subscriptions of a subscriber share it.
pub(crate) struct Reserve<D: ConnectionDialect> {
    pool: Pool<D>,
    own: Mutex<Option<D::Connection>>,
}

/// A connection of the pool, or the one beside it.
pub(crate) enum Lent<'r, D: ConnectionDialect> {
    /// With the one beside it that is needed no longer.
    Pooled(Pooled<D>, Superseded<D>),
    Own(Own<'r, D>),
}

/// Closes the connection beside the pool when the one that was lent in its place has been used: who renews a lease
/// is taken for dead while the connection that renewed it last is gone.
pub(crate) struct Superseded<D: ConnectionDialect>(Option<D::Connection>);

/// The connection beside the pool, while somebody uses it. Like a [`Pooled`] one it is closed unless it is settled.
pub(crate) struct Own<'r, D: ConnectionDialect> {
    own: MutexGuard<'r, Option<D::Connection>>,
    in_doubt: bool,
}

impl<D: ConnectionDialect> Reserve<D> {
    pub(crate) fn new(pool: Pool<D>) -> Self {
        Self { pool, own: Mutex::default() }
    }

    /// A connection of the pool if it has one to lend within `patience`, otherwise the other one.
    pub(crate) async fn lend(&self, patience: Duration) -> Result<Lent<'_, D>, Failure> {
        let patience = match self.own.try_lock() {
            Ok(own) if own.is_none() => patience,
            _ => PATIENCE_MIN.min(patience),
        };
        let options = self.pool.connect_options();
        if !D::is_shared(&options) {
            return Pooled::clean(&self.pool).await.map(Lent::from);
        }
        match timeout(patience, Pooled::clean(&self.pool)).await {
            Ok(pooled) => {
                let own = self.own.try_lock().ok().and_then(|mut own| own.take());
                pooled.map(|pooled| Lent::Pooled(pooled, Superseded(own)))
            }
            Err(_) => {
                let mut own = self.own.lock().await;
                if own.is_none() {
                    tracing::debug!("all connections of the pool are taken, opening one beside it");
                    *own = Some(D::Connection::connect_with(&options).await.map_err(classify::<D>)?);
                }
                Ok(Lent::Own(Own { own, in_doubt: false }))
            }
        }
    }
}

impl<D: ConnectionDialect> Lent<'_, D> {
    /// For the next statement, after which it is [settled](Self::settled) or closed.
    pub(crate) fn get(&mut self) -> Result<&mut D::Connection, Failure> {
        match self {
            Self::Pooled(pooled, _) => Ok(pooled.get()),
            Self::Own(own) => {
                own.in_doubt = true;
                own.own
                    .deref_mut()
                    .as_mut()
                    .ok_or_else(|| Failure::because(Trouble::Unavailable, "no connection"))
            }
        }
    }

    /// Its last statement was answered.
    pub(crate) fn settled(&mut self) {
        match self {
            Self::Pooled(pooled, _) => pooled.settled(),
            Self::Own(own) => own.in_doubt = false,
        }
    }
}

impl<D: ConnectionDialect> Drop for Own<'_, D> {
    fn drop(&mut self) {
        if self.in_doubt {
            *self.own = None;
        }
    }
}

impl<D: ConnectionDialect> From<Pooled<D>> for Lent<'_, D> {
    fn from(pooled: Pooled<D>) -> Self {
        Self::Pooled(pooled, Superseded(None))
    }
}

impl<D: ConnectionDialect> Drop for Superseded<D> {
    fn drop(&mut self) {
        if let Some(own) = self.0.take() {
            tokio::spawn(async move { timeout(CLOSE_MAX, own.close()).await.is_ok() });
        }
    }
}
