//! [`KafkaSubscriber`]: makes subscriptions, and the stream that each one is.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use uuid::Uuid;
use watermill_core::{
    DeadLetter, Subscriber, Subscription,
    backend::{Failure, Registry, Trouble},
    delivery::Origin,
    error::{ConfigError, SubscribeError},
    subscriber::{Ordering, SubscriberCapabilities},
    subscription::SubscriptionStatus,
};

use crate::{
    BACKEND, KafkaPublisher, KafkaPublisherConfig, KafkaSubscriberConfig, PartitionLag, StartPosition,
    client::{Client, Command, Owner},
    dead_letters,
    group::Subscribed,
    service,
    settle::Shared,
    subscription::KafkaSource,
    topics::{self, Prepared},
};

/// How many topics are remembered to have been there.
const KNOWN_MAX: usize = 10_000;

/// Reads topics of a Kafka cluster, for a consumer group or every partition by itself.
///
/// The subscriptions of one subscriber share a client, and so a member of the group, as long as they are
/// to different topics; a second one to the same topic is a member of its own. Every partition is an
/// ordering scope.
pub struct KafkaSubscriber {
    config: KafkaSubscriberConfig,
    /// The group, or a name that no group has: librdkafka wants one.
    group: String,
    open: Registry<KafkaSource>,
    running: Mutex<Running>,
}

/// What its subscriptions share.
#[derive(Default)]
struct Running {
    clients: Vec<Arc<Client>>,
    /// Where `initialize` has found the ends of topics, for subscriptions without a group.
    prepared: HashMap<String, Prepared>,
    /// Where rejected messages go.
    dead_letters: Option<DeadLetter>,
    /// Topics that were there once.
    known: HashSet<String>,
    /// The transactions that positions are committed in, if any.
    owner: Option<Arc<dyn Owner>>,
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
        Ok(Self { config, group, open: Registry::default(), running: Mutex::default() })
    }

    /// How far each partition that is read here is behind, as measured at the last
    /// [`lag_interval`](KafkaSubscriberConfig::lag_interval): a gauge. Partitions that were not measured
    /// yet are not in it.
    pub fn lag(&self) -> Vec<PartitionLag> {
        self.open.sources().iter().flat_map(|source| source.lag()).collect()
    }

    /// Commits positions in these transactions from now on.
    pub(crate) fn commit_with(&self, owner: Arc<dyn Owner>) -> Result<(), ConfigError> {
        let mut running = self.lock();
        ConfigError::check("commit the subscriber's positions in transactions")
            .unless(self.config.group.is_some(), "without a group there are no positions to commit")
            .unless(running.clients.is_empty(), "it has subscriptions already, which commit by themselves")
            .unless(running.owner.is_none(), "it is another publisher's already")
            .unless(
                self.config.reads_committed(),
                "what it reads must be committed: remove isolation.level from its options",
            )
            .finish()?;
        running.owner = Some(owner);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that the topic, and the one for dead letters, are there.
    async fn prepare(&self, topic: &str) -> Result<Prepared, Failure> {
        if let Some(dead) = self.dead_letter_topic(topic) {
            let config = self.config.clone().start(StartPosition::Earliest);
            topics::prepare(&config, &self.group, dead)
                .await
                .map_err(|failure| failure.explained("the dead-letter topic cannot be used"))?;
        }
        let prepared = topics::prepare(&self.config, &self.group, topic).await;
        let known = &mut self.lock().known;
        match prepared {
            Ok(prepared) => {
                if known.len() < KNOWN_MAX {
                    known.insert(topic.to_owned());
                }
                Ok(prepared)
            }
            // Brokers say so of every topic while they start.
            Err(failure) if failure.trouble() == Trouble::Topic && known.contains(topic) => {
                let detail = format!("the topic {topic:?} was there, and brokers do not know it now");
                Err(failure.with_trouble(Trouble::Unavailable).explained(detail))
            }
            Err(failure) => Err(failure),
        }
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
        config.options = self.config.options.dead_letters();
        (config.create_topics, config.request_timeout) =
            (self.config.create_topics, self.config.request_timeout);
        let publisher = KafkaPublisher::new(config)
            .map_err(|error| Failure::because(Trouble::Config, error.to_string()))?;
        let dead_letters = DeadLetter::new(publisher, dead)
            .map_err(|error| Failure::because(Trouble::Config, error.to_string()))?;
        running.dead_letters = Some(dead_letters.clone());
        Ok(Some(dead_letters))
    }

    /// Begins to read what is prepared. Nothing is awaited here, so nothing is left half done.
    fn begin(&self, topic: &str, prepared: Prepared) -> Result<Subscription, SubscribeError> {
        let mut running = self.lock();
        let subscribing = |failure: Failure| failure.subscribing(topic);
        if let Some(over) = running.owner.as_ref().and_then(|owner| owner.over()) {
            let ended = format!("the transactions of its publisher have ended for good: {}", over.text());
            return Err(subscribing(over.explained(ended)));
        }
        let prepared = match running.prepared.remove(topic) {
            Some(before) => Prepared { starts: before.starts, ..prepared },
            None => prepared,
        };
        let dead_letters = self.dead_letters(&mut running, topic).map_err(subscribing)?;
        running.clients.retain(|client| !client.is_closed());
        let client = match running.clients.iter().find(|client| client.reserve(topic)) {
            Some(client) => client.clone(),
            None => {
                let client = service::start(&self.config, &self.group, topic, running.owner.as_ref());
                let client = client.map_err(subscribing)?;
                running.clients.push(client.clone());
                client
            }
        };
        let together = running.owner.as_ref().map(|owner| owner.transactions());
        drop(running);
        let shared = Arc::new(Shared::new(
            topic,
            client.notifier.clone(),
            self.config.max_ahead,
            self.config.group.is_some(),
            dead_letters.is_some(),
            together,
        ));
        let source = Arc::new(KafkaSource {
            client: client.clone(),
            shared: shared.clone(),
            group: self.config.group.clone(),
            // Once for the group's answer, once for the client's end.
            close_timeout: self.config.request_timeout * 2,
        });
        let origin = Origin::builder(BACKEND, topic).group(self.config.group.as_deref());
        let (subscription, origin) = self.open.open(origin, source)?;
        if let Some(dead_letters) = dead_letters {
            tokio::spawn(dead_letters::send_all(shared.clone(), dead_letters, self.config.retry));
        }
        client.command(Command::Join(Subscribed { shared, origin, prepared }));
        Ok(subscription)
    }
}

#[async_trait]
impl Subscriber for KafkaSubscriber {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        self.open.check(topic)?;
        let prepared = self.prepare(topic).await.map_err(|failure| failure.subscribing(topic))?;
        self.open.check(topic)?;
        self.begin(topic, prepared)
    }

    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        self.open.check(topic)?;
        let initialized = async {
            let prepared = self.prepare(topic).await?;
            if self.config.group.is_some() && !prepared.starts.is_empty() {
                topics::pin(&self.config, &self.group, topic, &prepared).await?;
            }
            Ok(prepared)
        };
        let prepared = initialized.await.map_err(|failure: Failure| failure.subscribing(topic))?;
        if self.config.group.is_none() && !prepared.starts.is_empty() {
            self.open.check(topic)?;
            self.lock().prepared.entry(topic.to_owned()).or_insert(prepared);
        }
        Ok(())
    }

    fn in_group(&self, group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        let config = self.config.clone().group(group);
        Ok(Arc::new(Self::new(config)?))
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        let closed = self.open.close().await;
        let dead_letters = {
            let mut running = self.lock();
            running.clients.clear();
            running.dead_letters.take()
        };
        if let Some(dead_letters) = dead_letters
            && let Err(error) = dead_letters.publisher().close().await
        {
            tracing::warn!(%error, "the publisher of dead letters could not be closed");
        }
        closed
    }

    fn status(&self) -> Vec<SubscriptionStatus> {
        self.open.status()
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
