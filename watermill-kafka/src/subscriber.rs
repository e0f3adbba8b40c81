//! [`KafkaSubscriber`]: makes subscriptions, and the stream that each one is.

use std::{
    collections::HashMap,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, UNIX_EPOCH},
};

use async_trait::async_trait;
use futures::{Stream, future::join_all};
use tokio::{
    sync::oneshot,
    time::{Instant, Sleep, sleep_until, timeout},
};
use uuid::Uuid;
use watermill_core::{
    DeadLetter, Delivery, DeliveryInfo, Subscriber, Subscription, Window,
    delivery::{Origin, Token},
    error::{SubscribeError, SubscribeErrorKind},
    subscriber::{Ordering, SubscriberCapabilities},
    subscription::{Health, SubscriptionControl, SubscriptionStatus},
};

use crate::{
    BACKEND, ConfigError, KafkaPublisher, KafkaPublisherConfig, KafkaSubscriberConfig, PartitionLag,
    StartPosition,
    assigned::scope,
    client::{Client, Order},
    context::Subscribed,
    dead_letters,
    error::{Failure, Trouble},
    ledger::Handed,
    settle::{Desk, Next, Settler},
    topics::{self, Prepared},
    transactions::Owner,
};

/// How many deliveries in a row a consumer gets before other tasks have their turn.
const YIELD_AFTER: u32 = 128;

/// Reads topics of a Kafka cluster, for a consumer group or every partition by itself.
///
/// The subscriptions of one subscriber share a client, and so a member of the group, as long as they are
/// to different topics; a second one to the same topic is a member of its own. Every partition is an
/// ordering scope.
pub struct KafkaSubscriber {
    config: KafkaSubscriberConfig,
    /// The group, or a name that no group has: librdkafka wants one.
    group: String,
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    closed: bool,
    clients: Vec<Arc<Client>>,
    handles: Vec<Handle>,
    /// Where `initialize` has found the ends of topics, for subscriptions without a group.
    prepared: HashMap<String, Prepared>,
    /// Where rejected messages go.
    dead_letters: Option<DeadLetter>,
    /// The transactions that positions are committed in, if any.
    owner: Option<Arc<Owner>>,
}

/// The way to end a subscription and to wait for that.
#[derive(Clone)]
struct Handle {
    client: Arc<Client>,
    desk: Arc<Desk>,
    origin: Origin,
    /// How long closing may take: the client may be caught in a request that takes longer.
    patience: Duration,
}

impl KafkaSubscriber {
    /// A subscriber. Nothing is sent before the first subscription.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] as [`KafkaSubscriberConfig::validate`].
    pub fn new(config: KafkaSubscriberConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let group = config.group.clone().unwrap_or_else(|| format!("watermill-{}", Uuid::now_v7()));
        Ok(Self { config, group, running: Mutex::default() })
    }

    /// How far each partition that is read here is behind, as measured at the last
    /// [`lag_interval`](KafkaSubscriberConfig::lag_interval): a gauge. Partitions that were not measured
    /// yet are not in it.
    pub fn lag(&self) -> Vec<PartitionLag> {
        let handles = self.lock().handles.clone();
        let of = |handle: &Handle| {
            let topic = &handle.desk.topic;
            let lag = |(partition, watermark)| {
                let messages = handle.client.context.measured(topic, partition)?.lag(watermark)?;
                Some(PartitionLag { topic: topic.clone(), partition, messages })
            };
            handle.desk.watermarks().into_iter().filter_map(lag).collect::<Vec<_>>()
        };
        handles.iter().flat_map(of).collect()
    }

    /// Commits positions in these transactions from now on.
    pub(crate) fn commit_with(&self, owner: Arc<Owner>) -> Result<(), ConfigError> {
        let mut running = self.lock();
        let mut problems = Vec::new();
        let mut check = |fine: bool, problem: &str| {
            if !fine {
                problems.push(format!("subscriber: {problem}"));
            }
        };
        check(self.config.group.is_some(), "without a group there are no positions to commit");
        check(running.clients.is_empty(), "it has subscriptions already, which commit by themselves");
        check(running.owner.is_none(), "it is another publisher's already");
        check(self.config.reads_committed(), "what it reads must be committed: remove isolation.level");
        ConfigError::unless_empty(problems)?;
        running.owner = Some(owner);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, topic: &str) -> Result<MutexGuard<'_, Running>, SubscribeError> {
        let running = self.lock();
        if running.closed { Err(SubscribeError::closed(topic)) } else { Ok(running) }
    }

    /// Sees to it that the topic, and the one for dead letters, are there.
    async fn prepare(&self, topic: &str) -> Result<Prepared, Failure> {
        if let Some(dead) = self.dead_letter_topic(topic) {
            let config = self.config.clone().start(StartPosition::Earliest);
            topics::prepare(&config, &self.group, dead)
                .await
                .map_err(|failure| failure.explained("the dead-letter topic cannot be used"))?;
        }
        topics::prepare(&self.config, &self.group, topic).await
    }

    /// What is rejected by a reader of the dead letters themselves must not come back to it.
    fn dead_letter_topic(&self, topic: &str) -> Option<&str> {
        self.config.dead_letter_topic.as_deref().filter(|dead| *dead != topic)
    }

    fn dead_letters(&self, running: &mut Running, topic: &str) -> Result<Option<DeadLetter>, Failure> {
        let Some(dead) = self.dead_letter_topic(topic) else { return Ok(None) };
        if let Some(dead_letters) = &running.dead_letters {
            return Ok(Some(dead_letters.clone()));
        }
        let mut config = KafkaPublisherConfig::new(&self.config.brokers);
        config.options = self.config.options.connection();
        let publisher = KafkaPublisher::new(config)
            .map_err(|error| Failure::because(Trouble::Config, error.to_string()))?;
        let dead_letters = DeadLetter::new(publisher, dead)
            .map_err(|error| Failure::because(Trouble::Config, error.to_string()))?;
        running.dead_letters = Some(dead_letters.clone());
        Ok(Some(dead_letters))
    }

    /// Begins to read what is prepared. Nothing is awaited here, so nothing is left half done.
    fn begin(&self, running: &mut Running, topic: &str, prepared: Prepared) -> Result<Handle, Failure> {
        let dead_letters = self.dead_letters(running, topic)?;
        running.clients.retain(|client| !client.is_closed());
        running.handles.retain(|handle| !handle.desk.left.is_cancelled());
        let client = match running.clients.iter().find(|client| client.reserve(topic)) {
            Some(client) => client.clone(),
            None => {
                let client = Client::start(&self.config, &self.group, topic, running.owner.clone())?;
                running.clients.push(client.clone());
                client
            }
        };
        let grouped = self.config.group.is_some();
        let max_ahead = self.config.max_ahead;
        let pair = running.owner.as_ref().map(|owner| owner.0.clone());
        let desk = Desk::new(topic, client.bell.clone(), max_ahead, grouped, dead_letters.is_some(), pair);
        let desk = Arc::new(desk);
        let origin =
            Origin::builder(BACKEND, topic).group(self.config.group.as_deref()).build(Settler(desk.clone()));
        if let Some(dead_letters) = dead_letters {
            tokio::spawn(dead_letters::send_all(desk.clone(), dead_letters, self.config.retry));
        }
        client.order(Order::Join(Subscribed { desk: desk.clone(), origin: origin.clone(), prepared }));
        // Once for the group's answer, once for the client's end.
        let patience = self.config.request_timeout * 2;
        let handle = Handle { client, desk, origin, patience };
        running.handles.push(handle.clone());
        Ok(handle)
    }
}

#[async_trait]
impl Subscriber for KafkaSubscriber {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        drop(self.open(topic)?);
        let mut prepared = self.prepare(topic).await.map_err(|failure| failure.subscribing(topic))?;
        let mut running = self.open(topic)?;
        if let Some(before) = running.prepared.remove(topic) {
            prepared.starts = before.starts;
        }
        let handle =
            self.begin(&mut running, topic, prepared).map_err(|failure| failure.subscribing(topic))?;
        let deliveries =
            Deliveries { desk: handle.desk.clone(), origin: handle.origin.clone(), in_a_row: 0, timer: None };
        Ok(Subscription::new(deliveries, Control(handle)))
    }

    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        drop(self.open(topic)?);
        let initialized = async {
            let prepared = self.prepare(topic).await?;
            if self.config.group.is_some() && !prepared.starts.is_empty() {
                topics::pin(&self.config, &self.group, topic, &prepared).await?;
            }
            Ok(prepared)
        };
        let prepared = initialized.await.map_err(|failure: Failure| failure.subscribing(topic))?;
        if self.config.group.is_none() && !prepared.starts.is_empty() {
            self.open(topic)?.prepared.entry(topic.to_owned()).or_insert(prepared);
        }
        Ok(())
    }

    fn in_group(&self, group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        let config = self.config.clone().group(group);
        let subscriber = Self::new(config)
            .map_err(|error| SubscribeError::new(SubscribeErrorKind::Config, "").with_source(error))?;
        Ok(Arc::new(subscriber))
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        let (handles, dead_letters) = {
            let mut running = self.lock();
            running.closed = true;
            running.clients.clear();
            (std::mem::take(&mut running.handles), running.dead_letters.take())
        };
        let closed = join_all(handles.iter().map(Handle::close)).await;
        if let Some(dead_letters) = dead_letters
            && let Err(error) = dead_letters.publisher().close().await
        {
            tracing::warn!(%error, "the publisher of dead letters could not be closed");
        }
        closed.into_iter().collect()
    }

    fn status(&self) -> Vec<SubscriptionStatus> {
        let handles = self.lock().handles.clone();
        handles.iter().filter(|handle| !handle.desk.left.is_cancelled()).map(Handle::status).collect()
    }

    fn capabilities(&self) -> SubscriberCapabilities {
        SubscriberCapabilities::new(BACKEND)
            .groups(true)
            .persistent(true)
            .ordering(Ordering::Scoped)
            .attempts(true)
            .nack_delay(true)
            .dead_letters(self.config.dead_letter_topic.is_some())
    }
}

impl fmt::Debug for KafkaSubscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSubscriber").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Handle {
    fn status(&self) -> SubscriptionStatus {
        let lag = self.desk.watermarks().into_iter().filter_map(|(partition, watermark)| {
            self.client.context.measured(&self.desk.topic, partition)?.lag(watermark)
        });
        let lag = lag.fold(None, |sum: Option<u64>, lag| Some(sum.unwrap_or_default() + lag));
        let health = match (self.desk.health(), self.client.context.silence.too_long()) {
            (Health::Healthy, Some(silent)) => {
                let reason = format!("the brokers have not answered for {:.1} s", silent.as_secs_f64());
                Health::Degraded { reason }
            }
            (health, _) => health,
        };
        SubscriptionStatus::new(&*self.desk.topic, health)
            .group(self.origin.group())
            .outstanding(self.desk.outstanding())
            .lag(lag)
    }

    /// Ends the subscription, and does not wait. What is acked from now on does not count.
    fn end(&self) -> oneshot::Receiver<Result<(), Failure>> {
        let (done, ended) = oneshot::channel();
        self.desk.stop_intake();
        if self.desk.end() {
            self.client.order(Order::Leave(self.desk.clone(), done));
        }
        self.origin.revoke_all();
        ended
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        let ended = async {
            match self.end().await {
                Ok(committed) => committed,
                // Somebody else has ended it; it is over when the client has let go.
                Err(_) => {
                    self.desk.left.cancelled().await;
                    Ok(())
                }
            }
        };
        let committed = match timeout(self.patience, ended).await {
            Ok(committed) => committed.map_err(|failure| {
                failure.explained("what was settled last is not recorded and comes again")
            }),
            Err(_) => Err(Failure::because(
                Trouble::Unavailable,
                "Kafka has not answered in time; what was settled last may not be recorded, and comes again then",
            )),
        };
        committed.map_err(|failure| failure.subscribing(&self.desk.topic))
    }
}

/// The stream. Dropping it ends the intake; dropping the control beside it ends the subscription.
struct Deliveries {
    desk: Arc<Desk>,
    origin: Origin,
    /// How many deliveries were returned since the task had to wait last.
    in_a_row: u32,
    /// Only made when a delay is waited for.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deliveries {
    #[inline]
    fn delivery(&self, scope: u64, handed: Handed) -> Delivery {
        let Handed { offset, attempt, delivery, timestamp, message } = handed;
        let published_at = timestamp.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
        let token = Token { scope, position: offset.cast_unsigned(), delivery };
        let info = DeliveryInfo::new(self.origin.clone(), token)
            .with_attempt(attempt)
            .with_partition(scope::partition(scope))
            .with_published_at(published_at.map(|since| UNIX_EPOCH + since))
            .with_offset(offset);
        Delivery::new(message, info)
    }

    /// Ready when `until` has come.
    fn poll_timer(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(cx)
    }
}

impl Stream for Deliveries {
    type Item = Result<Delivery, SubscribeError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        // Nothing that is awaited here counts against the runtime's own budget.
        if this.in_a_row == YIELD_AFTER {
            this.in_a_row = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            match this.desk.next(cx.waker()) {
                Next::Handed(scope, handed) => {
                    this.in_a_row += 1;
                    return Poll::Ready(Some(Ok(this.delivery(scope, handed))));
                }
                Next::Error(error) => return Poll::Ready(Some(Err(error))),
                Next::Ended => return Poll::Ready(None),
                Next::Nothing(due) => {
                    this.in_a_row = 0;
                    let Some(due) = due else { return Poll::Pending };
                    ready!(this.poll_timer(due, cx));
                }
            }
        }
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
        self.0.desk.set_window(window);
    }

    fn stop_intake(&self) {
        self.0.desk.stop_intake();
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        self.0.close().await
    }

    fn status(&self) -> SubscriptionStatus {
        self.0.status()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        drop(self.0.end());
    }
}
