//! [`Draws`], what will be drawn, and [`Drawn`], what was.

use std::{ops::Range, time::Duration};

use fastrand::Rng;
use tokio::time::{Instant, sleep};

use crate::{
    database::Database,
    draw::{Draw, Outcome, Strategy},
    options::Options,
};

/// How often the relay is killed, in draws.
const DRAWS_PER_KILL: u32 = 40;

/// How long none of the announced events may arrive before the lottery says that some did not.
const PATIENCE: Duration = Duration::from_secs(30);

const PLAYERS: [&str; 8] = ["Ada", "Barbara", "Edsger", "Grace", "Leslie", "Margaret", "Niklaus", "Tony"];

/// All draws of a run. They follow from the seed, whatever happens while they are made.
pub(crate) struct Draws {
    rng: Rng,
    failure_rate: f64,
    lotteries: Range<i64>,
}

/// The draws that were made.
#[derive(Default)]
pub(crate) struct Drawn(Vec<(Draw, Outcome)>);

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
    pub(crate) async fn settle(&self, database: &dyn Database) -> Result<bool, sqlx::Error> {
        let count = |is: fn(&Draw, Outcome) -> bool| {
            self.0.iter().filter(|(draw, outcome)| is(draw, *outcome)).count() as i64
        };
        let concluded = count(|_, outcome| outcome == Outcome::Concluded);
        let announced = count(|draw, outcome| {
            outcome == Outcome::Concluded || draw.strategy == Strategy::PublishThenStore
        });
        let (mut last, mut since) = ((0, 0), Instant::now());
        loop {
            let (heard, prizes) = database.heard_from(self.first_lottery()).await?;
            if heard >= announced && prizes >= concluded {
                return Ok(true);
            }
            if (heard, prizes) != last {
                (last, since) = ((heard, prizes), Instant::now());
            }
            if since.elapsed() > PATIENCE {
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
