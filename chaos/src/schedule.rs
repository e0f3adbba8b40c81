//! [`Schedule`]: what is broken when. The seed says it all.

use std::{iter, time::Duration};

use fastrand::Rng;

use crate::{fault::Fault, options::Length};

/// Something to break, and how long everything is left alone after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) fault: Fault,
    /// What the fault decides by: whom it hits, and for how long.
    pub(crate) luck: u64,
    pub(crate) rest: Duration,
}

/// The steps of one run.
#[derive(Debug)]
pub(crate) struct Schedule {
    random: Rng,
    kinds: Vec<Fault>,
    /// What is left of this round.
    round: Vec<Fault>,
    rounds: Option<u32>,
}

/// How long everything is left alone.
const REST_MS: std::ops::Range<u64> = 1_000..3_000;

impl Schedule {
    /// Rounds, in each of which every kind that can be made comes once, in an order of its own. In the short form there
    /// is one round, of a share of the kinds.
    pub(crate) fn new(seed: u64, length: Length, part: (usize, usize), can: impl Fn(Fault) -> bool) -> Self {
        let mut random = Rng::with_seed(seed);
        let mut kinds: Vec<Fault> = Fault::ALL.into_iter().filter(|fault| can(*fault)).collect();
        let rounds = match length {
            Length::For(_) => None,
            Length::Short => {
                random.shuffle(&mut kinds);
                kinds = share(&kinds, part);
                Some(1)
            }
        };
        Self { random, kinds, round: Vec::new(), rounds }
    }
}

/// Every `count`th, beginning with the `at`th.
fn share(kinds: &[Fault], (at, count): (usize, usize)) -> Vec<Fault> {
    kinds.iter().copied().skip(at).step_by(count.max(1)).collect()
}

impl Iterator for Schedule {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if self.round.is_empty() {
            if self.rounds == Some(0) || self.kinds.is_empty() {
                return None;
            }
            self.rounds = self.rounds.map(|left| left - 1);
            self.round = self.kinds.clone();
            self.random.shuffle(&mut self.round);
        }
        let fault = self.round.pop()?;
        let rest = Duration::from_millis(self.random.u64(REST_MS));
        Some(Step { fault, luck: self.random.u64(..), rest })
    }
}

/// Numbers that each part of a run draws for itself, so that none depends on how the others got on.
pub(crate) fn random(seed: u64, part: &str, number: usize) -> Rng {
    let salt = part.bytes().chain(number.to_le_bytes());
    let mixed = iter::once(seed).chain(salt.map(u64::from));
    Rng::with_seed(
        mixed.fold(0, |mixed, next| mixed.rotate_left(7).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ next),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const LONG: Length = Length::For(Duration::from_secs(600));

    fn steps(seed: u64, length: Length, part: (usize, usize)) -> Vec<Step> {
        Schedule::new(seed, length, part, |_| true).take(40).collect()
    }

    #[test]
    fn a_seed_is_a_schedule() {
        assert_eq!(steps(7, LONG, (0, 1)), steps(7, LONG, (0, 1)));
        assert_ne!(steps(7, LONG, (0, 1)), steps(8, LONG, (0, 1)));
    }

    #[test]
    fn every_kind_comes_in_every_round() {
        for round in steps(7, LONG, (0, 1)).chunks(Fault::ALL.len()) {
            let kinds: BTreeSet<Fault> = round.iter().map(|step| step.fault).collect();
            assert_eq!(kinds.len(), Fault::ALL.len());
        }
    }

    #[test]
    fn the_two_runs_of_a_database_in_the_short_form_together_make_every_kind_once() {
        for seed in 0..20 {
            let runs = (0..2).map(|at| steps(seed, Length::Short, (at, 2)));
            let kinds: Vec<Fault> = runs.flatten().map(|step| step.fault).collect();
            assert_eq!(kinds.iter().collect::<BTreeSet<_>>().len(), Fault::ALL.len());
            assert_eq!(kinds.len(), Fault::ALL.len());
        }
    }

    #[test]
    fn what_cannot_be_made_is_not_scheduled() {
        let mut steps = Schedule::new(7, LONG, (0, 1), |fault| fault != Fault::TurnClock).take(40);
        assert!(steps.all(|step| step.fault != Fault::TurnClock));
        assert_eq!(Schedule::new(7, LONG, (0, 1), |_| false).count(), 0);
    }

    #[test]
    fn parts_draw_numbers_of_their_own() {
        let mut first =
            [random(1, "writer", 0).u64(..), random(1, "writer", 1).u64(..), random(2, "writer", 0).u64(..)];
        first.sort_unstable();
        assert!(first.windows(2).all(|pair| pair[0] != pair[1]));
        assert_eq!(random(1, "writer", 0).u64(..), random(1, "writer", 0).u64(..));
    }
}
