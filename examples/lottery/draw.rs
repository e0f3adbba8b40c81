//! [`Draw`]: one lottery, from the drawing of its winner to the announcement, or to the crash.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use watermill_core::{Backoff, Message, Publisher, PublisherExt, error::BoxError};
use watermill_forwarder::ForwarderPublisher;

use crate::{
    broker::Broker,
    database::Database,
    prize::{LotteryConcluded, TOPIC},
};

/// How long a broker may be away.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a draw stores its row and publishes its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Strategy {
    PublishThenStore,
    StoreThenPublish,
    Transactional,
}

/// One lottery, and what fate has in store for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Draw {
    pub(crate) lottery: i64,
    pub(crate) winner: &'static str,
    pub(crate) strategy: Strategy,
    /// Whether the process crashes between the two steps.
    pub(crate) crashes: bool,
    /// Whether the relay is killed, and started again, before this draw.
    pub(crate) relay_is_killed: bool,
}

/// How far a draw came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Concluded,
    Crashed,
}

impl Strategy {
    pub(crate) const ALL: [Self; 3] = [Self::PublishThenStore, Self::StoreThenPublish, Self::Transactional];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PublishThenStore => "publish, then store",
            Self::StoreThenPublish => "store, then publish",
            Self::Transactional => "one transaction",
        }
    }
}

impl Draw {
    /// Stores the winner and announces the event, each with its strategy, unless it crashes.
    pub(crate) async fn conclude(
        &self,
        broker: &Broker,
        database: &dyn Database,
    ) -> Result<Outcome, BoxError> {
        match self.strategy {
            Strategy::PublishThenStore => self.publish_then_store(&*broker.publisher, database).await,
            Strategy::StoreThenPublish => self.store_then_publish(&*broker.publisher, database).await,
            Strategy::Transactional => self.in_one_transaction(database).await,
        }
    }

    /// A crash leaves an event without a winner.
    async fn publish_then_store(
        &self,
        publisher: &dyn Publisher,
        database: &dyn Database,
    ) -> Result<Outcome, BoxError> {
        announce(publisher, self.event()?).await?;
        if self.crashes {
            return Ok(Outcome::Crashed);
        }
        database.store(self.lottery, self.winner).await?;
        Ok(Outcome::Concluded)
    }

    /// A crash leaves a winner that nobody hears of.
    async fn store_then_publish(
        &self,
        publisher: &dyn Publisher,
        database: &dyn Database,
    ) -> Result<Outcome, BoxError> {
        database.store(self.lottery, self.winner).await?;
        if self.crashes {
            return Ok(Outcome::Crashed);
        }
        announce(publisher, self.event()?).await?;
        Ok(Outcome::Concluded)
    }

    /// A crash leaves nothing: before the commit there is neither a row nor an event, after it there are
    /// both, and the relay brings the event to the broker.
    async fn in_one_transaction(&self, database: &dyn Database) -> Result<Outcome, BoxError> {
        let mut tx = database.begin().await?;
        tx.store(self.lottery, self.winner).await?;
        ForwarderPublisher::new(tx.publisher()).publish_one(TOPIC, self.event()?).await?;
        if self.crashes {
            return Ok(Outcome::Crashed);
        }
        tx.commit().await?;
        Ok(Outcome::Concluded)
    }

    fn event(&self) -> Result<Message, BoxError> {
        let event = LotteryConcluded { lottery: self.lottery };
        Ok(Message::json(&event)?.with_key(self.lottery.to_string()))
    }
}

/// Publishes an event. A broker that is away is waited for; whether it had taken the event, nobody knows then, and the prize
/// service knows one that comes again.
async fn announce(publisher: &dyn Publisher, event: Message) -> Result<(), BoxError> {
    let (started, backoff) = (Instant::now(), Backoff::default().max(Duration::from_secs(1)));
    let mut retries = 0;
    loop {
        match publisher.publish_one(TOPIC, event.clone()).await {
            Err(error) if error.is_retryable() && started.elapsed() < PATIENCE => {
                sleep(backoff.delay(retries)).await;
                retries += 1;
            }
            published => return Ok(published?),
        }
    }
}
