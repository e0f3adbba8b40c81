//! [`Reserve`]: a connection for what must not wait for handlers, and by which others see that an owner lives.

use std::{
    ops::DerefMut,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use sqlx::{Connection as _, Pool};
use tokio::{
    runtime::Handle,
    sync::{Mutex, MutexGuard},
    time::{Instant, timeout},
};

use super::{Checked, ConnectionDialect, Pooled};
use crate::error::{Failure, Trouble, classify};

/// How long the pool is asked for a connection while it is known to have none to lend.
const PATIENCE_MIN: Duration = Duration::from_millis(10);

/// How long the server is waited for when that connection is closed; it notices anyway.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// The pool, and one more connection when all of it is taken. Handlers may have every connection that there is,
/// for as long as they like; but who does not renew what is in hand loses it, and repeats it.
///
/// That connection is made when it is needed, with the options of the pool's, and closed when the pool has some to
/// lend again. All subscriptions of a subscriber share it.
///
/// While a lease is owned it stays, because it is the [witness](Self::witness) of that: a pool closes connections that
/// are old or idle, and to others an owner whose connection is gone is dead.
pub(crate) struct Reserve<D: ConnectionDialect> {
    pool: Pool<D>,
    own: Mutex<Option<D::Connection>>,
    witness: std::sync::Mutex<Witness>,
    /// Whether the pool had none to lend the last time.
    is_exhausted: AtomicBool,
    owners: AtomicUsize,
    checked: Checked,
}

/// What is known of the connection beside the pool.
#[derive(Default)]
struct Witness {
    /// What the server calls it, and when it last said so.
    seen: Option<(Arc<str>, Instant)>,
    /// A pooler lends us connections of its own, which go when it likes.
    is_shifting: bool,
}

/// A connection of the pool, or the one beside it.
pub(crate) enum Lent<'r, D: ConnectionDialect> {
    /// With the one beside it that is needed no longer.
    Pooled(Pooled<D>, Superseded<D>),
    Own(Own<'r, D>),
}

/// Closes the connection beside the pool when the one that was lent in its place has been used.
pub(crate) struct Superseded<D: ConnectionDialect>(Option<D::Connection>);

/// The connection beside the pool, while somebody uses it. Like a [`Pooled`] one it is closed unless it is settled.
pub(crate) struct Own<'r, D: ConnectionDialect> {
    reserve: &'r Reserve<D>,
    own: MutexGuard<'r, Option<D::Connection>>,
    in_doubt: bool,
}

/// Who owns a lease, and wants that seen.
pub(crate) struct Owner<D: ConnectionDialect>(Arc<Reserve<D>>);

impl<D: ConnectionDialect> Reserve<D> {
    pub(crate) fn new(pool: Pool<D>) -> Self {
        Self {
            pool,
            own: Mutex::default(),
            witness: std::sync::Mutex::default(),
            is_exhausted: AtomicBool::new(false),
            owners: AtomicUsize::new(0),
            checked: Checked::default(),
        }
    }

    /// Keeps the connection beside the pool until the last owner is dropped.
    pub(crate) fn owner(self: &Arc<Self>) -> Owner<D> {
        self.owners.fetch_add(1, Ordering::Relaxed);
        Owner(self.clone())
    }

    /// Refuses a pool over which statements may become others.
    pub(crate) async fn check_pool(&self) -> Result<(), Failure> {
        self.checked.pool(&self.pool).await
    }

    /// A connection of the pool if it has one to lend within `patience`, otherwise the other one.
    pub(crate) async fn lend(&self, patience: Duration) -> Result<Lent<'_, D>, Failure> {
        let patience = match self.is_exhausted.load(Ordering::Relaxed) {
            true => PATIENCE_MIN.min(patience),
            false => patience,
        };
        if !D::is_shared(&self.pool.connect_options()) {
            return Pooled::clean(&self.pool).await.map(Lent::from);
        }
        let lent = timeout(patience, Pooled::clean(&self.pool)).await;
        self.is_exhausted.store(lent.is_err(), Ordering::Relaxed);
        match lent {
            Ok(pooled) => {
                let is_needed = self.owners.load(Ordering::Relaxed) > 0;
                let own = self.own.try_lock().ok().filter(|_| !is_needed).and_then(|mut own| own.take());
                pooled.map(|pooled| Lent::Pooled(pooled, Superseded(own)))
            }
            Err(_) => {
                let mut own = self.own.lock().await;
                if own.is_none() {
                    tracing::debug!("all connections of the pool are taken, opening one beside it");
                    *own = Some(self.connect().await?);
                }
                Ok(Lent::Own(Own { reserve: self, own, in_doubt: false }))
            }
        }
    }

    /// What the server calls the connection beside the pool, which is opened if there is none, and asked at most once
    /// in `every`. `None` where that cannot be known within `patience`, or means nothing: then it is not known to
    /// others whether the owner lives, and they wait for the end of its lease.
    ///
    /// Nothing else is asked over it while the pool has others: what an application does to the connections of its pool
    /// when they are opened was not done to this one.
    pub(crate) async fn witness(&self, every: Duration, patience: Duration) -> Option<Arc<str>> {
        if !D::SEES_CONNECTIONS || self.known().is_shifting {
            return None;
        }
        let seen = self.known().seen.clone();
        if let Some((name, at)) = &seen
            && at.elapsed() < every
        {
            return Some(name.clone());
        }
        match timeout(patience, self.look(seen)).await {
            Ok(Ok(name)) => name,
            Ok(Err(failure)) => {
                tracing::debug!(reason = failure.text(), "no connection shows that the owner lives");
                None
            }
            // Somebody renews or records over it, or the server does not answer.
            Err(_) => None,
        }
    }

    async fn look(&self, seen: Option<(Arc<str>, Instant)>) -> Result<Option<Arc<str>>, Failure> {
        let mut own = Own { reserve: self, own: self.own.lock().await, in_doubt: false };
        let is_new = own.own.is_none();
        if is_new {
            *own.own = Some(self.connect().await?);
        }
        own.in_doubt = true;
        let Some(connection) = own.own.as_mut() else { return Ok(None) };
        let name = D::name_of(connection).await;
        own.in_doubt = name.is_err();
        let name = Arc::from(name.map_err(classify::<D>)?);
        let mut known = self.known();
        known.is_shifting = !is_new && seen.is_some_and(|(before, _)| before != name);
        known.seen = Some((name, Instant::now())).filter(|_| !known.is_shifting);
        Ok(known.seen.as_ref().map(|(name, _)| name.clone()))
    }

    async fn connect(&self) -> Result<D::Connection, Failure> {
        // Whatever is known is of the one before.
        self.known().seen = None;
        D::Connection::connect_with(&self.pool.connect_options()).await.map_err(classify::<D>)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Witness> {
        self.witness.lock().unwrap_or_else(PoisonError::into_inner)
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
            self.reserve.known().seen = None;
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
        if let Some(own) = self.0.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(async move { timeout(CLOSE_MAX, own.close()).await.is_ok() });
        }
    }
}

impl<D: ConnectionDialect> Drop for Owner<D> {
    fn drop(&mut self) {
        if self.0.owners.fetch_sub(1, Ordering::Relaxed) == 1
            && let Ok(mut own) = self.0.own.try_lock()
        {
            self.0.known().seen = None;
            drop(Superseded::<D>(own.take()));
        }
    }
}
