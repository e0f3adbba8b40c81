//! [`SqlBroadcast`]: every process receives every message.

use std::{
    fmt, mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering as Atomic},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use sqlx::Pool;
use uuid::Uuid;
use watermill_core::{
    Subscriber, Subscription, Window,
    error::{ConfigError, SubscribeError, SubscribeErrorKind, chain},
    subscriber::SubscriberCapabilities,
    subscription::{SubscriptionControl, SubscriptionStatus},
};

use crate::{
    SqlDatabase, SqlSubscriber, SqlSubscriberConfig, StartPosition,
    connection::{Pooled, within},
    error::{Failure, Trouble, classify},
    schema,
    topic::{LEASES, Tables},
};

/// A subscriber of logs whose every subscription receives every message that is published from its beginning on: to tell
/// all processes that a cache is stale, say.
///
/// A subscription is a consumer group of its own, made when it begins and removed when it is closed. What a process leaves
/// behind that ends without closing is removed by the next one that subscribes, once its lease has been over for
/// [a while](Self::leftovers_after): until then [retention](crate::SqlRetention) keeps the rows that it has not read.
///
/// Within its life a subscription has the guarantees of an [`SqlSubscriber`]; if it may have missed something after all, because
/// it was [taken for a leftover](Self::leftovers_after), it says so. What is published while a process is down is not for it.
///
/// ```
/// # fn add(pool: sqlx::Pool<impl watermill_sql::SqlDatabase>) -> Result<(), Box<dyn std::error::Error>> {
/// use watermill_core::{Handler, Json, Router};
/// use watermill_sql::{SqlBroadcast, SqlSubscriberConfig};
///
/// async fn forget(Json(product): Json<String>) { /* the price of it that this process knows */ }
///
/// let prices = SqlBroadcast::new(pool, "prices", SqlSubscriberConfig::default())?;
/// let router = Router::new().add(Handler::new("forget", forget).from(prices, "prices.changed"));
/// # Ok(())
/// # }
/// ```
pub struct SqlBroadcast<D: SqlDatabase> {
    pool: Pool<D>,
    name: String,
    config: SqlSubscriberConfig,
    leftovers_after: Duration,
    closed: AtomicBool,
    /// One for each subscription that is open, and perhaps some that are not any more.
    open: Mutex<Vec<Arc<Member<D>>>>,
}

/// What is between the name and what tells the groups apart.
const MARK: &str = "~broadcast~";

/// The longest name, in bytes: with what comes behind, it fits into the column of groups.
const NAME_BYTES_MAX: usize = 150;

/// The group of one subscription.
struct Member<D: SqlDatabase> {
    pool: Pool<D>,
    subscriber: SqlSubscriber<D>,
    topic: String,
    group: String,
    schema_qualified: bool,
}

impl<D: SqlDatabase> SqlBroadcast<D> {
    /// A broadcast over `pool`. Groups are named after `name`, of 150 bytes at most, which is to be the same in all
    /// processes. The configuration's own group and start do not count.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] as [`SqlSubscriberConfig::validate`], and for a name that cannot be.
    pub fn new(
        pool: Pool<D>,
        name: impl Into<String>,
        config: SqlSubscriberConfig,
    ) -> Result<Self, ConfigError> {
        let name = name.into();
        ConfigError::check("configure the broadcast")
            .unless(!name.is_empty(), "it has no name")
            .unless(name.len() <= NAME_BYTES_MAX, "its name is longer than 150 bytes")
            .unless(!name.contains(MARK), format!("its name has {MARK:?} in it"))
            .finish()?;
        config.validate()?;
        let (closed, open) = Default::default();
        let leftovers_after = Duration::from_secs(300);
        Ok(Self { pool, name, config: config.start(StartPosition::Latest), leftovers_after, closed, open })
    }

    /// How long after its last lease a group that nobody has closed is removed: 5 minutes by default. A process that was
    /// stopped for longer, or has not reached the database, and goes on, has lost its group if another one has subscribed
    /// meanwhile. Its subscription goes on with what is newest then, and says so on its stream
    /// ([`Missed`](SubscribeErrorKind::Missed)): [`OnMissed`](watermill_core::decorator::OnMissed) tells whoever keeps something
    /// by what comes. The time should be longer than a process takes to begin to read.
    #[must_use]
    pub fn leftovers_after(mut self, time: Duration) -> Self {
        self.leftovers_after = time;
        self
    }

    fn member(&self, topic: &str) -> Result<Arc<Member<D>>, SubscribeError> {
        let began_ms = now_ms();
        let group = format!("{}{MARK}{began_ms}~{}", self.name, Uuid::now_v7().simple());
        let config = self.config.clone().group(&group).ends_with_subscription();
        let schema_qualified = config.schema_qualified;
        let subscriber = SqlSubscriber::new(self.pool.clone(), config)?;
        let (pool, topic) = (self.pool.clone(), topic.to_owned());
        Ok(Arc::new(Member { pool, subscriber, topic, group, schema_qualified }))
    }

    /// Remembers who is to be closed; false once this was closed.
    fn note(&self, member: &Arc<Member<D>>) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if self.closed.load(Atomic::Acquire) {
            return false;
        }
        open.retain(|member| !member.subscriber.status().is_empty());
        open.push(member.clone());
        true
    }

    /// Removes the groups that ended processes have left behind, but for this one, and says how many.
    async fn remove_leftovers(&self, topic: &str, own: &str) -> Result<usize, Failure> {
        let tables = named::<D>(topic, self.config.schema_qualified)?;
        let prefix = format!("{}{MARK}", self.name);
        let mut pooled = Pooled::clean(&self.pool).await?;
        if !schema::has_offsets::<D>(pooled.get(), &tables).await? {
            pooled.settled();
            return Ok(0);
        }
        let leases = D::columns(pooled.get(), LEASES).await.map_err(classify::<D>)?;
        let groups = D::groups(pooled.get(), &tables, !leases.is_empty()).await.map_err(classify::<D>)?;
        let after_ms = i64::try_from(self.leftovers_after.as_millis()).unwrap_or(i64::MAX);
        let mut removed = 0;
        for group in groups {
            let Some(rest) = group.group.strip_prefix(&prefix) else { continue };
            let began_ms = rest.split('~').next().and_then(|ms| ms.parse::<i64>().ok()).unwrap_or(i64::MAX);
            // A group is made before it has its first lease.
            let is_new = now_ms().saturating_sub(began_ms) <= after_ms;
            let is_read = group.remaining_ms.is_some_and(|ms| ms > after_ms.saturating_neg());
            if !is_new && !is_read && group.group != own {
                forget::<D>(pooled.get(), &tables, &group.group).await?;
                removed += 1;
            }
        }
        pooled.settled();
        Ok(removed)
    }
}

#[async_trait]
impl<D: SqlDatabase> Subscriber for SqlBroadcast<D> {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        if self.closed.load(Atomic::Acquire) {
            return Err(SubscribeError::closed(topic));
        }
        let member = self.member(topic)?;
        let subscription = member.subscriber.subscribe(topic).await?;
        match within(CLEANING, self.remove_leftovers(topic, &member.group)).await {
            Ok(0) => {}
            Ok(removed) => {
                tracing::info!(topic, removed, "removed the groups of broadcasts that nobody reads any more")
            }
            Err(failure) => tracing::warn!(
                topic,
                reason = failure.text(),
                "the groups of broadcasts that nobody reads any more stay until the next subscription"
            ),
        }
        if !self.note(&member) {
            // It was closed meanwhile, and knew nothing of this one.
            member.end().await?;
            return Err(SubscribeError::closed(topic));
        }
        let (stream, inner) = subscription.into_parts();
        Ok(Subscription::new(stream, Control { inner, member }))
    }

    /// Makes the topic's tables. The group is that of a subscription, and so are the messages.
    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        let member = self.member(topic)?;
        member.subscriber.initialize(topic).await?;
        member.forget().await
    }

    fn in_group(&self, _group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        let detail = "each subscription of a broadcast is a group of its own; use a subscriber with a group";
        Err(SubscribeError::new(SubscribeErrorKind::Unsupported, "").because(detail))
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        self.closed.store(true, Atomic::Release);
        let open = mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        let mut closed = Ok(());
        for member in open {
            closed = closed.and(member.end().await);
        }
        closed
    }

    fn status(&self) -> Vec<SubscriptionStatus> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter().flat_map(|member| member.subscriber.status()).collect()
    }

    fn capabilities(&self) -> SubscriberCapabilities {
        SubscriberCapabilities::new("sql")
            .persistent(true)
            .ordering(watermill_core::subscriber::Ordering::Total)
            .attempts(true)
            .nack_delay(true)
            .dead_letters(self.config.dead_letter_topic.is_some())
    }
}

/// How long removing a group, or looking for those that are left, may take.
const CLEANING: Duration = Duration::from_secs(10);

impl<D: SqlDatabase> Member<D> {
    /// Closes the subscription and removes its group.
    async fn end(&self) -> Result<(), SubscribeError> {
        let closed = self.subscriber.close().await;
        closed.and(self.forget().await)
    }

    async fn forget(&self) -> Result<(), SubscribeError> {
        let forgotten = within(CLEANING, async {
            let tables = named::<D>(&self.topic, self.schema_qualified)?;
            let mut pooled = Pooled::clean(&self.pool).await?;
            forget::<D>(pooled.get(), &tables, &self.group).await?;
            pooled.settled();
            Ok(())
        });
        forgotten.await.map_err(|failure| failure.subscribing(&self.topic))
    }
}

async fn forget<D: SqlDatabase>(
    connection: &mut D::Connection,
    tables: &Tables,
    group: &str,
) -> Result<(), Failure> {
    D::forget_position(connection, tables, group).await.map_err(classify::<D>)?;
    D::forget_lease(connection, tables.topic(), group).await.map_err(classify::<D>)
}

fn named<D: SqlDatabase>(topic: &str, schema_qualified: bool) -> Result<Tables, Failure> {
    Tables::named::<D>(topic, schema_qualified).map_err(|why| Failure::because(Trouble::Topic, why))
}

/// The controls of a subscription, which remove its group in the end.
struct Control<D: SqlDatabase> {
    inner: Arc<dyn SubscriptionControl>,
    member: Arc<Member<D>>,
}

#[async_trait]
impl<D: SqlDatabase> SubscriptionControl for Control<D> {
    fn set_window(&self, window: Window) {
        self.inner.set_window(window);
    }

    fn stop_intake(&self) {
        self.inner.stop_intake();
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        self.inner.close().await?;
        if let Err(error) = self.member.end().await {
            let error = chain(&error);
            tracing::warn!(
                group = self.member.group,
                error,
                "the group of a broadcast is left for others to remove"
            );
        }
        Ok(())
    }

    fn status(&self) -> SubscriptionStatus {
        self.inner.status()
    }

    fn is_owner(&self) -> bool {
        self.inner.is_owner()
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl<D: SqlDatabase> fmt::Debug for SqlBroadcast<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlBroadcast")
            .field("database", &D::NAME)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
