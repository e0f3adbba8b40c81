//! Two replicas of a service, each with a cache. Whoever changes a price tells all of them, on a channel of Redis.
//!
//! ```sh
//! REDIS_URL=redis://localhost/ cargo run --bin cache_invalidation --features redis
//! ```
//!
//! Nobody stores what is sent on a channel. So a replica that may have missed something, because its connection was lost,
//! forgets all that it has: it cannot know what is still true.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use redis::Client;
use tokio::task::JoinHandle;
use watermill_core::{
    Handler, Message, MessageId, PublisherExt as _, Router, State,
    decorator::OnMissed,
    error::BoxError,
    router::{Phase, Report, RouterControl, RunError},
};
use watermill_redis::{
    RedisPubSubPublisher, RedisPubSubPublisherConfig, RedisPubSubSubscriber, RedisPubSubSubscriberConfig,
};

/// The prices: in a database, elsewhere.
type Prices = Arc<Mutex<HashMap<String, u32>>>;

async fn invalidate(State(cache): State<Prices>, article: Message) -> Result<(), BoxError> {
    cache.lock().expect("it does not panic").remove(str::from_utf8(article.payload())?);
    Ok(())
}

struct Replica {
    name: &'static str,
    cache: Prices,
    control: RouterControl,
    running: JoinHandle<Result<Report, RunError>>,
}

impl Replica {
    async fn start(name: &'static str, server: &Client, channel: &str) -> Result<Self, BoxError> {
        let cache = Prices::default();
        let stale = cache.clone();
        let changes = RedisPubSubSubscriber::new(server.clone(), RedisPubSubSubscriberConfig::default())?;
        let changes = OnMissed::new(changes, move |_: &str| stale.lock().expect("it does not panic").clear());
        let invalidate = Handler::new("invalidate", invalidate).from(changes, channel);
        let router = Router::new().with_state(cache.clone()).add(invalidate);
        let control = router.control();
        let running = tokio::spawn(router.run());
        control.reached(Phase::Running).await;
        Ok(Self { name, cache, control, running })
    }

    fn price(&self, article: &str, database: &Prices) {
        let mut cache = self.cache.lock().expect("it does not panic");
        let from = if cache.contains_key(article) { "its cache" } else { "the database" };
        let price = cache
            .entry(article.to_owned())
            .or_insert_with(|| database.lock().expect("it does not panic")[article]);
        println!("{}: {article} costs {price}, from {from}", self.name);
    }

    /// Waits until it has heard of so many changes.
    async fn heard(&self, changes: u64) {
        while self.control.handler("invalidate").is_some_and(|handler| handler.counts.acked < changes) {
            tokio::task::yield_now().await;
        }
    }

    async fn stop(self) -> Result<(), BoxError> {
        self.control.stop();
        self.running.await??;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://localhost/".to_owned());
    let server = Client::open(url)?;
    // Of this run alone.
    let channel = format!("prices-{}", MessageId::new());
    let database = Prices::new(Mutex::new(HashMap::from([("tea".to_owned(), 3), ("cake".to_owned(), 5)])));
    let replicas =
        [Replica::start("one", &server, &channel).await?, Replica::start("two", &server, &channel).await?];
    for replica in &replicas {
        replica.price("tea", &database);
        replica.price("cake", &database);
    }

    println!("tea becomes dearer");
    database.lock().expect("it does not panic").insert("tea".to_owned(), 4);
    let publisher = RedisPubSubPublisher::new(server, RedisPubSubPublisherConfig::default())?;
    publisher.publish_one(&channel, Message::new("tea")).await?;
    for replica in &replicas {
        replica.heard(1).await;
        replica.price("tea", &database);
        replica.price("cake", &database);
    }
    for replica in replicas {
        replica.stop().await?;
    }
    Ok(())
}
