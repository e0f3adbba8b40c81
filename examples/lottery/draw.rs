//! [`Draw`]: one lottery, from the drawing of its winner to the announcement, or to the crash.

use std::time::Duration;

use fastrand::Rng;
use sqlx::{Sqlite, SqliteExecutor, SqlitePool, Transaction};
use tokio::time::{Instant, sleep};
use watermill_core::{Message, Publisher, PublisherExt, error::BoxError};
use watermill_forwarder::ForwarderPublisher;
use watermill_sql::SqlPublisher;

use crate::{
    broker::Broker,
    database::Database,
    options::Options,
    prize::{LotteryConcluded, TOPIC},
};

const PLAYERS: [&str; 8] = ["Ada", "Barbara", "Edsger", "Grace", "Leslie", "Margaret", "Niklaus", "Tony"];

/// How often the relay is killed, in draws.
const DRAWS_PER_KILL: u32 = 40;

/// How long announced events may take to arrive before the lottery says that they did not.
const PATIENCE: Duration = Duration::from_secs(30);

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

/// All draws of a run. They follow from the seed, whatever happens while they are made.
pub(crate) struct Draws {
    rng: Rng,
    failure_rate: f64,
    lotteries: std::ops::Range<i64>,
}

/// The draws that were made.
#[derive(Default)]
pub(crate) struct Drawn(Vec<(Draw, Outcome)>);

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

impl Draws {
    pub(crate) fn new(seed: u64, options: &Options, first: i64) -> Self {
        let lotteries = first..first + i64::from(options.draws);
        Self { rng: Rng::with_seed(seed), failure_rate: options.failure_rate, lotteries }
    }
}

impl Iterator for Draws {
    type Item = Draw;

    fn next(&mut self) -> Option<Draw> {
        let lottery = self.lotteries.next()?;
        let rng = &mut self.rng;
        Some(Draw {
            lottery,
            winner: PLAYERS[rng.usize(..PLAYERS.len())],
            strategy: Strategy::ALL[rng.usize(..Strategy::ALL.len())],
            crashes: rng.f64() < self.failure_rate,
            relay_is_killed: rng.u32(..DRAWS_PER_KILL) == 0,
        })
    }
}

impl Draw {
    /// Stores the winner and announces the event, each with its strategy, unless it crashes.
    pub(crate) async fn conclude(&self, broker: &Broker, database: &Database) -> Result<Outcome, BoxError> {
        match self.strategy {
            Strategy::PublishThenStore => self.publish_then_store(&*broker.publisher, &database.pool).await,
            Strategy::StoreThenPublish => self.store_then_publish(&*broker.publisher, &database.pool).await,
            Strategy::Transactional => self.in_one_transaction(&database.pool).await,
        }
    }

    /// A crash leaves an event without a winner.
    async fn publish_then_store(
        &self,
        publisher: &dyn Publisher,
        database: &SqlitePool,
    ) -> Result<Outcome, BoxError> {
        publisher.publish_one(TOPIC, self.event()?).await?;
        if self.crashes {
            return Ok(Outcome::Crashed);
        }
        self.store(database).await?;
        Ok(Outcome::Concluded)
    }

    /// A crash leaves a winner that nobody hears of.
    async fn store_then_publish(
        &self,
        publisher: &dyn Publisher,
        database: &SqlitePool,
    ) -> Result<Outcome, BoxError> {
        self.store(database).await?;
        if self.crashes {
            return Ok(Outcome::Crashed);
        }
        publisher.publish_one(TOPIC, self.event()?).await?;
        Ok(Outcome::Concluded)
    }

    /// A crash leaves nothing: before the commit there is neither a row nor an event, after it there are
    /// both, and the relay brings the event to the broker.
    async fn in_one_transaction(&self, database: &SqlitePool) -> Result<Outcome, BoxError> {
        let mut tx: Transaction<'_, Sqlite> = database.begin().await?;
        self.store(&mut *tx).await?;
        ForwarderPublisher::new(SqlPublisher::in_transaction(&mut tx))
            .publish_one(TOPIC, self.event()?)
            .await?;
        if self.crashes {
            return Ok(Outcome::Crashed);
        }
        tx.commit().await?;
        Ok(Outcome::Concluded)
    }

    async fn store(&self, database: impl SqliteExecutor<'_>) -> Result<(), sqlx::Error> {
        sqlx::query("insert into winners (lottery, winner) values (?, ?)")
            .bind(self.lottery)
            .bind(self.winner)
            .execute(database)
            .await?;
        Ok(())
    }

    fn event(&self) -> Result<Message, BoxError> {
        let event = LotteryConcluded { lottery: self.lottery };
        Ok(Message::json(&event)?.with_key(self.lottery.to_string()))
    }
}

impl Drawn {
    pub(crate) fn push(&mut self, draw: Draw, outcome: Outcome) {
        self.0.push((draw, outcome));
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn first_lottery(&self) -> i64 {
        self.0.first().map_or(i64::MAX, |(draw, _)| draw.lottery)
    }

    pub(crate) fn of(&self, strategy: Strategy) -> impl Iterator<Item = &Draw> {
        self.0.iter().map(|(draw, _)| draw).filter(move |draw| draw.strategy == strategy)
    }

    /// Waits until the prize service has heard of every draw that was announced and has sent every
    /// prize that it can send. Says whether it has.
    pub(crate) async fn settle(&self, database: &Database) -> Result<bool, sqlx::Error> {
        let count = |is: fn(&Draw, Outcome) -> bool| {
            self.0.iter().filter(|(draw, outcome)| is(draw, *outcome)).count() as i64
        };
        let concluded = count(|_, outcome| outcome == Outcome::Concluded);
        let announced = count(|draw, outcome| {
            outcome == Outcome::Concluded || draw.strategy == Strategy::PublishThenStore
        });
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (heard, prizes) = database.heard_from(self.first_lottery()).await?;
            if heard >= announced && prizes >= concluded {
                return Ok(true);
            }
            if Instant::now() > deadline {
                return Ok(false);
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn draws(seed: u64, options: &[&str]) -> Vec<Draw> {
        let options = Options::parse_from([&["lottery"], options].concat());
        Draws::new(seed, &options, 1).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_draws_and_another_one_others() {
        assert_eq!(draws(7, &[]), draws(7, &[]));
        assert_ne!(draws(7, &[]), draws(8, &[]));
    }

    #[test]
    fn every_strategy_has_its_share_of_draws_and_crashes() {
        let draws = draws(7, &["--draws", "3000", "--failure-rate", "0.5"]);
        for strategy in Strategy::ALL {
            let of_strategy: Vec<_> = draws.iter().filter(|draw| draw.strategy == strategy).collect();
            let crashes = of_strategy.iter().filter(|draw| draw.crashes).count();
            assert!((800..1200).contains(&of_strategy.len()), "{strategy:?}: {}", of_strategy.len());
            assert!((400..600).contains(&crashes), "{strategy:?}: {crashes}");
        }
    }

    #[test]
    fn a_failure_rate_of_0_or_1_is_meant() {
        assert!(draws(7, &["--failure-rate", "0"]).iter().all(|draw| !draw.crashes));
        assert!(draws(7, &["--failure-rate", "1"]).iter().all(|draw| draw.crashes));
    }
}
