//! [`SqlSubscriber`]: makes subscriptions over a pool.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    task::{Context, Poll},
};

use async_trait::async_trait;
use futures::Stream;
use sqlx::Pool;
use tokio::{sync::watch, time::Instant};
use uuid::Uuid;
use watermill_core::{
    Delivery, DeliveryInfo, Subscriber, Subscription, Window,
    delivery::{Origin, Token},
    error::{SubscribeError, SubscribeErrorKind},
    subscriber::{Ordering, SubscriberCapabilities},
    subscription::{Health, SubscriptionControl},
};

use crate::{
    ConfigError, HeldBack, SqlDatabase, SqlSubscriberConfig,
    dialect::Ear,
    error::{Failure, Trouble},
    reader::{Ended, Reader},
    schema,
    settle::{Desk, Settler},
    topic::Tables,
};

/// Reads topics for a consumer group, over a pool of connections.
///
/// Of all subscriptions to a topic for the same group, in all processes, one reads and the others
/// stand by. A subscription needs one connection of the pool at a time, and none while nothing
/// happens. With [`listen`](SqlSubscriberConfig::listen) there is one more connection on PostgreSQL, which
/// is not the pool's, while there are subscriptions of this subscriber or of those that
/// [`in_group`](Subscriber::in_group) made of it.
pub struct SqlSubscriber<D: SqlDatabase> {
    pool: Pool<D>,
    config: SqlSubscriberConfig,
    running: Mutex<Running>,
    /// Shared with the subscribers for other groups; there while one of their subscriptions is.
    ear: Arc<Mutex<Weak<Ear>>>,
}

#[derive(Default)]
struct Running {
    closed: bool,
    handles: Vec<Handle>,
}

/// The way to end a subscription and to wait for that.
#[derive(Clone)]
struct Handle {
    desk: Arc<Desk>,
    ended: watch::Receiver<Ended>,
    topic: String,
}

impl<D: SqlDatabase> SqlSubscriber<D> {
    /// A subscriber over `pool`. Nothing is sent before the first subscription.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] as [`SqlSubscriberConfig::validate`].
    pub fn new(pool: Pool<D>, config: SqlSubscriberConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let config = config.group_or(D::DEFAULT_GROUP);
        Ok(Self { pool, config, running: Mutex::default(), ear: Arc::default() })
    }

    async fn prepare(&self, tables: &Tables, dead_letters: Option<&Tables>) -> Result<(), Failure> {
        let create = self.config.initialize_schema;
        let mut connection = self.pool.acquire().await.map_err(Failure::of::<D>)?;
        let payload = self.config.payload_column;
        schema::ensure_all::<D>(&mut connection, tables, payload, create).await?;
        if let Some(dead_letters) = dead_letters {
            schema::ensure_messages::<D>(&mut connection, dead_letters, payload, create).await?;
        }
        D::create_group(&mut connection, tables, &self.config).await.map_err(Failure::of::<D>)?;
        D::open_cursor(&mut connection, tables, &self.config).await.map(drop)
    }

    /// Which of this subscriber's subscriptions wait for the transactions of others, and for whose: a gauge.
    ///
    /// What lasts for more than a second is in the log too, and in the subscription's health.
    pub fn held_back(&self) -> Vec<HeldBack> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.handles.iter().filter_map(|handle| handle.desk.lock().held_back.clone()).collect()
    }

    /// The ear that there is, or a new one, if there is to be one.
    fn listen(&self) -> Option<Arc<Ear>> {
        if !self.config.listen {
            return None;
        }
        let mut shared = self.ear.lock().unwrap_or_else(PoisonError::into_inner);
        let ear = match shared.upgrade() {
            Some(ear) => ear,
            None => Arc::new(D::listen(&self.pool, &self.config)?),
        };
        *shared = Arc::downgrade(&ear);
        Some(ear)
    }

    fn tables(&self, topic: &str) -> Result<(Tables, Option<Tables>), Failure> {
        let tables = |topic| Tables::new::<D>(topic).map_err(|why| Failure::because(Trouble::Topic, why));
        // What is rejected by a reader of the dead letters themselves must not come back to it.
        let dead = self.config.dead_letter_topic.as_deref().filter(|dead| !dead.eq_ignore_ascii_case(topic));
        Ok((tables(topic)?, dead.map(tables).transpose()?))
    }
}

#[async_trait]
impl<D: SqlDatabase> Subscriber for SqlSubscriber<D> {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        if self.running.lock().unwrap_or_else(PoisonError::into_inner).closed {
            return Err(SubscribeError::closed(topic));
        }
        let (tables, dead_letters) = self.tables(topic).map_err(|failure| failure.subscribing(topic))?;
        self.prepare(&tables, dead_letters.as_ref()).await.map_err(|failure| failure.subscribing(topic))?;

        let desk = Arc::new(Desk::new(self.config.batch_size, dead_letters.is_some()));
        let group = Some(self.config.group_name()).filter(|group| !group.is_empty());
        let origin = Origin::builder("sql", topic).group(group).build(Settler(desk.clone()));
        let reader = Reader {
            pool: self.pool.clone(),
            config: self.config.clone(),
            tables,
            dead_letters,
            owner: Uuid::now_v7().to_string(),
            desk: desk.clone(),
            origin: origin.clone(),
        };
        let (sender, ended) = watch::channel(None);
        let handle = Handle { desk: desk.clone(), ended, topic: topic.to_owned() };
        {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            if running.closed {
                return Err(SubscribeError::closed(topic));
            }
            running
                .handles
                .retain(|handle| handle.ended.has_changed().is_ok() && handle.ended.borrow().is_none());
            running.handles.push(handle.clone());
            let ear = self.listen();
            tokio::spawn(async move {
                reader.run(sender).await;
                drop(ear);
            });
        }
        // From here on, dropping the future drops the subscription.
        let subscription = Subscription::new(Deliveries { desk: desk.clone(), origin }, Control(handle));
        desk.started.notified().await;
        Ok(subscription)
    }

    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        let initialized = async {
            let (tables, dead_letters) = self.tables(topic)?;
            self.prepare(&tables, dead_letters.as_ref()).await
        };
        initialized.await.map_err(|failure| failure.subscribing(topic))
    }

    fn in_group(&self, group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        let config = self.config.clone().group(group);
        let subscriber = Self::new(self.pool.clone(), config)
            .map_err(|error| SubscribeError::new(SubscribeErrorKind::Config, "").with_source(error))?;
        Ok(Arc::new(Self { ear: self.ear.clone(), ..subscriber }))
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        let handles = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.closed = true;
            std::mem::take(&mut running.handles)
        };
        futures::future::join_all(handles.iter().map(Handle::close)).await.into_iter().collect()
    }

    fn capabilities(&self) -> SubscriberCapabilities {
        SubscriberCapabilities::new("sql")
            .groups(true)
            .persistent(true)
            .ordering(Ordering::Total)
            .nack_delay(true)
            .dead_letters(self.config.dead_letter_topic.is_some())
    }
}

impl<D: SqlDatabase> fmt::Debug for SqlSubscriber<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlSubscriber")
            .field("database", &D::NAME)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Handle {
    async fn close(&self) -> Result<(), SubscribeError> {
        self.desk.stop_intake();
        self.desk.closing.cancel();
        let mut ended = self.ended.clone();
        let why = match ended.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Err(why))) => why.clone(),
            Ok(_) => return Ok(()),
            Err(_) => "the runtime of its task has ended".to_owned(),
        };
        Err(SubscribeError::new(SubscribeErrorKind::Unavailable, &self.topic)
            .because(format!("what was settled last may not be recorded: {why}")))
    }
}

/// The stream. Dropping it ends the intake; dropping the control beside it ends the subscription.
struct Deliveries {
    desk: Arc<Desk>,
    origin: Origin,
}

impl Stream for Deliveries {
    type Item = Result<Delivery, SubscribeError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let handed = match self.desk.poll(cx.waker()) {
            Poll::Ready(Some(Ok(handed))) => handed,
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => return Poll::Pending,
        };
        // The whole topic is one ordering scope.
        let token = Token { scope: 0, position: handed.sequence };
        let info = DeliveryInfo::new(self.origin.clone(), token)
            .with_attempt(handed.attempt)
            .with_redelivered(handed.redelivered)
            .with_published_at(handed.published_at)
            .with_offset(handed.offset);
        Poll::Ready(Some(Ok(Delivery::new(handed.message, info))))
    }
}

impl Drop for Deliveries {
    fn drop(&mut self) {
        self.desk.stop_intake();
    }
}

struct Control(Handle);

#[async_trait]
impl SubscriptionControl for Control {
    fn set_window(&self, window: Window) {
        self.0.desk.lock().ledger.set_window(window);
        self.0.desk.wake_reader();
        self.0.desk.work.notify_one();
    }

    fn stop_intake(&self) {
        self.0.desk.stop_intake();
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        self.0.close().await
    }

    fn health(&self) -> Health {
        self.0.desk.lock().health.clone()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // At once, and not when the task gets to it: what is acked after the drop does not count.
        self.0.desk.lock().ledger.give_back(Instant::now());
        self.0.desk.closing.cancel();
    }
}
