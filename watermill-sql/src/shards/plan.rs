//! [`Plan`]: how many shards a group has, and how it comes to another number. A state machine without I/O, which the
//! model explores.
//!
//! A change is a boundary in the log, an offset. Shards up to it are one generation, shards behind it the next; those of
//! the next are made once *all* shards of the last have recorded that they are done up to the boundary. So a row of a key
//! that changes its shard is never behind another one that is on its way.
//!
//! 1. Somebody [wants](Plan::want) another number.
//! 2. A member of the generation [closes](Plan::close) it: from then on nobody takes rows in.
//! 3. The boundary is [set](Plan::set_boundary) at the highest offset that there is. Whoever looked at the plan after its last
//!    fetch, and saw it open, has fetched nothing above it. Rows are taken in again, up to the boundary.
//! 4. When every shard is there, the next generation [begins](Plan::turn) at the boundary.
//!
//! The first generation has one shard, which is the group itself, as it was read before there were shards.

use serde::{Deserialize, Serialize};

/// The shards of a group, as they are stored. What is written is compared with what was read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) generation: u64,
    /// How many shards it has.
    pub(crate) shards: u32,
    /// How many shards are wanted.
    pub(crate) wanted: u32,
    pub(crate) change: Change,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ask: Option<Ask>,
}

/// A process asks for a shard.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Ask {
    pub(crate) by: String,
    /// Another that has at least so many.
    pub(crate) of_who_has: u32,
}

/// How far a change of the number of shards has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    None,
    Closed,
    Boundary(i64),
}

/// What a shard may take in of the rows that it has fetched before it looked at the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intake {
    Everything,
    /// Nothing until the boundary is known.
    Nothing,
    /// Rows up to this offset. When there are others, or this one is there, it is through.
    UpTo(i64),
    /// Its generation is over.
    Over,
}

impl Plan {
    pub(crate) fn new(wanted: u32) -> Self {
        Self { generation: 0, shards: 1, wanted, change: Change::None, ask: None }
    }

    /// The plan with another number of shards. One that is changed meanwhile gets there by a second change.
    pub(crate) fn want(&self, wanted: u32) -> Self {
        Self { wanted, ..self.clone() }
    }

    /// Closes the generation if another number is wanted. For members who own the lease of a shard: nobody is reading then
    /// who does not look at the plan.
    pub(crate) fn close(&self) -> Option<Self> {
        let is_due = self.change == Change::None && self.wanted != self.shards;
        is_due.then(|| Self { change: Change::Closed, ask: None, ..self.clone() })
    }

    /// Sets the boundary of a generation that is closed, to the highest offset that was found since.
    pub(crate) fn set_boundary(&self, highest: i64) -> Option<Self> {
        let is_due = self.change == Change::Closed;
        is_due.then(|| Self { change: Change::Boundary(highest), ..self.clone() })
    }

    /// Begins the next generation, with the offset behind which it reads, if all shards are done up to there. One whose position
    /// is not known is not.
    pub(crate) fn turn(&self, positions: &[i64]) -> Option<(Self, i64)> {
        let Change::Boundary(boundary) = self.change else { return None };
        let are_done = positions.len() == self.shards as usize && positions.iter().all(|at| *at >= boundary);
        let next = || Self {
            generation: self.generation + 1,
            shards: self.wanted,
            change: Change::None,
            ..self.clone()
        };
        are_done.then(|| (next(), boundary))
    }

    /// What a shard of a generation may take in.
    pub(crate) fn intake(&self, generation: u64) -> Intake {
        match self.change {
            _ if generation != self.generation => Intake::Over,
            Change::None => Intake::Everything,
            Change::Closed => Intake::Nothing,
            Change::Boundary(boundary) => Intake::UpTo(boundary),
        }
    }

    /// The consumer group of a shard.
    pub(crate) fn group(&self, base: &str, shard: u32) -> String {
        match self.generation {
            0 => base.to_owned(),
            generation => format!("{base}#{generation}/{shard}"),
        }
    }

    /// The consumer groups of all shards.
    pub(crate) fn groups(&self, base: &str) -> Vec<String> {
        (0..self.shards).map(|shard| self.group(base, shard)).collect()
    }

    pub(crate) fn encode(&self) -> String {
        serde_json::to_string(self).expect("numbers and text serialise")
    }

    pub(crate) fn decode(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().filter(|plan: &Self| plan.shards > 0 && plan.wanted > 0)
    }
}

/// The group and the number of the shard that a name stands for, if it is that of a shard.
pub(crate) fn shard_of_group(name: &str) -> Option<(&str, u32)> {
    let (base, place) = name.rsplit_once('#')?;
    let (generation, shard) = place.split_once('/')?;
    generation.parse::<u64>().ok()?;
    Some((base, shard.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_goes_by_a_boundary_that_all_shards_come_to() {
        let plan = Plan::new(4);
        assert_eq!((plan.intake(0), plan.groups("g")), (Intake::Everything, vec!["g".to_owned()]));
        let closed = plan.close().unwrap();
        assert_eq!((closed.intake(0), closed.close(), closed.turn(&[9])), (Intake::Nothing, None, None));
        let bound = closed.set_boundary(9).unwrap();
        assert_eq!(
            (bound.intake(0), bound.turn(&[8]), bound.set_boundary(12)),
            (Intake::UpTo(9), None, None)
        );
        let (next, boundary) = bound.turn(&[9]).unwrap();
        assert_eq!((next.generation, next.shards, boundary), (1, 4, 9));
        assert_eq!((next.intake(0), next.intake(1), next.close()), (Intake::Over, Intake::Everything, None));
        assert_eq!(next.group("g", 3), "g#1/3");
    }

    #[test]
    fn a_shard_whose_position_is_not_known_is_waited_for() {
        let bound = Plan { shards: 2, ..Plan::new(3).close().unwrap().set_boundary(5).unwrap() };
        assert_eq!(bound.turn(&[7]), None);
        assert_eq!(bound.turn(&[7, 4]), None);
        assert_eq!(bound.turn(&[7, 5]).unwrap().0.shards, 3);
    }

    #[test]
    fn it_is_read_back_and_what_is_no_plan_is_not() {
        let ask = Ask { by: "somebody".to_owned(), of_who_has: 2 };
        let plan = Plan { ask: Some(ask), ..Plan::new(3).close().unwrap() };
        assert_eq!(Plan::decode(&plan.encode()), Some(plan.clone()));
        assert_eq!(Plan::decode(&plan.set_boundary(4).unwrap().encode()).unwrap().intake(0), Intake::UpTo(4));
        assert_eq!(Plan::decode("{}"), None);
        assert_eq!(Plan::decode(&Plan::new(0).encode()), None);
    }

    #[test]
    fn the_name_of_a_shards_group_tells_whose_it_is() {
        assert_eq!(shard_of_group("a#b#12/3"), Some(("a#b", 3)));
        assert_eq!(shard_of_group("a#b"), None);
        assert_eq!(shard_of_group("a#x/1"), None);
    }
}
