//! [`Member`]: the readers of one process for the shards of a topic, and which of them may take one.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use uuid::Uuid;
use watermill_core::subscriber::KeyOf;

use super::{Ask, Change, Intake, Plan};

/// How old what was found out may be, so that all readers of a process ask together.
const SURVEY_AGE_MAX: Duration = Duration::from_millis(200);
/// How often a process without a shard asks for one at most.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// For how long a process leaves a shard alone that it has given up for somebody who asked.
pub(crate) const LEFT_TO_OTHERS: Duration = Duration::from_secs(2);

/// What the readers of one process for one topic share.
pub(crate) struct Member {
    /// Unique to it; the owners of its leases begin with it.
    pub(crate) id: String,
    /// The consumer group that is read in shards.
    pub(crate) base: String,
    pub(crate) key_of: Arc<KeyOf>,
    /// So many shards are wanted where there is no plan.
    pub(crate) count: u32,
    holds: AtomicU32,
    /// One takes a shard at a time, so that each knows how many the process has.
    pub(crate) claiming: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    survey: Option<(Instant, Arc<Survey>)>,
    asked_at: Option<Instant>,
}

/// The plan, and where its shards are.
#[derive(Clone, Debug)]
pub(crate) struct Survey {
    pub(crate) plan: Plan,
    /// As it was written.
    pub(crate) text: String,
    /// Of each shard that has a position, in the order of their numbers.
    pub(crate) shards: Vec<(u32, Found)>,
}

/// A shard's row.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) position: i64,
    /// Who has its lease.
    pub(crate) owner: Option<String>,
}

/// Which shard it is of which generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) generation: u64,
    pub(crate) shards: u32,
    pub(crate) number: u32,
}

/// A reader of a member: it reads the shard of that number, in every generation.
pub(crate) struct Slot {
    pub(crate) member: Arc<Member>,
    pub(crate) number: u32,
    state: Mutex<SlotState>,
}

#[derive(Default)]
struct SlotState {
    /// Since when nobody was seen to have the shard.
    free_since: Option<Instant>,
    /// Until when others may have it.
    left_until: Option<Instant>,
}

/// A shard that a process has, as long as it has it.
pub(crate) struct Holding(Arc<Member>);

/// What a reader without a lease may do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Claim,
    /// For this reason, and so long.
    Wait(String, Duration),
}

impl Member {
    pub(crate) fn new(base: &str, count: u32, key_of: Arc<KeyOf>) -> Self {
        Self {
            id: Uuid::now_v7().to_string(),
            base: base.to_owned(),
            key_of,
            count,
            holds: AtomicU32::new(0),
            claiming: tokio::sync::Mutex::default(),
            state: Mutex::default(),
        }
    }

    /// How many shards the process has.
    pub(crate) fn holds(&self) -> u32 {
        self.holds.load(Ordering::Relaxed)
    }

    /// What was found out a moment ago.
    pub(crate) fn surveyed(&self, now: Instant) -> Option<Arc<Survey>> {
        let state = self.state();
        let (_, survey) = state.survey.as_ref().filter(|(at, _)| now < *at + SURVEY_AGE_MAX)?;
        Some(Arc::clone(survey))
    }

    pub(crate) fn note(&self, survey: Survey, now: Instant) -> Arc<Survey> {
        let survey = Arc::new(survey);
        self.state().survey = Some((now, Arc::clone(&survey)));
        survey
    }

    /// Something has changed, so that what was found out is not true any more.
    pub(crate) fn forget(&self) {
        self.state().survey = None;
    }

    /// The plan in which this process asks for a shard, where another has two more than it and nobody asks yet.
    pub(crate) fn ask(&self, survey: &Survey, now: Instant) -> Option<Plan> {
        let mut state = self.state();
        let is_time = state.asked_at.is_none_or(|at| now >= at + ASK_INTERVAL);
        let most = survey.most_held_by_others(&self.id);
        let asks = is_time
            && survey.plan.change == Change::None
            // Whom it has asked may have given a shard to somebody else since, and have as many no more.
            && survey.plan.ask.as_ref().is_none_or(|ask| ask.by != self.id || ask.of_who_has != most)
            && most >= self.holds() + 2;
        asks.then(|| {
            state.asked_at = Some(now);
            Plan { ask: Some(Ask { by: self.id.clone(), of_who_has: most }), ..survey.plan.clone() }
        })
    }

    /// The plan without the question of another process, where this one is to give it a shard.
    pub(crate) fn give(&self, plan: &Plan) -> Option<Plan> {
        let asked = |ask: &Ask| ask.by != self.id && self.holds() >= ask.of_who_has;
        plan.ask.as_ref().is_some_and(asked).then(|| Plan { ask: None, ..plan.clone() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Survey {
    pub(crate) fn positions(&self) -> Vec<i64> {
        self.shards.iter().map(|(_, found)| found.position).collect()
    }

    fn most_held_by_others(&self, id: &str) -> u32 {
        let processes = || {
            let owners = self.shards.iter().filter_map(|(_, found)| found.owner.as_deref());
            owners.map(|owner| owner.split('/').next().unwrap_or(owner)).filter(move |owner| *owner != id)
        };
        let count = |process| processes().filter(|other| *other == process).count();
        processes().map(count).max().map_or(0, |most| u32::try_from(most).unwrap_or(u32::MAX))
    }
}

impl Slot {
    pub(crate) fn new(member: Arc<Member>, number: u32) -> Self {
        Self { member, number, state: Mutex::default() }
    }

    /// The name by which its leases are known, unlike that of any other reader.
    pub(crate) fn owner(&self) -> String {
        format!("{}/{}", self.member.id, self.number)
    }

    pub(crate) fn place(&self, plan: &Plan) -> Place {
        Place { generation: plan.generation, shards: plan.shards, number: self.number }
    }

    /// Whether to claim the shard now. A process that has shards leaves those that come free to others for a while that
    /// grows with their number, and takes them when nobody else does.
    pub(crate) fn next(&self, survey: &Survey, lease: Duration, now: Instant) -> Next {
        const SOON: Duration = Duration::from_millis(100);
        let Survey { plan, shards, .. } = survey;
        let intake = plan.intake(plan.generation);
        if self.number >= plan.shards {
            let wait = if intake == Intake::Everything { Duration::from_millis(500) } else { SOON };
            return Next::Wait(format!("standing by: there are {} shards", plan.shards), wait);
        }
        let Some((_, found)) = shards.iter().find(|(number, _)| *number == self.number) else {
            // It was looked for while the generation ended, or somebody has deleted the position.
            return Next::Wait(
                format!(
                    "the shard {} has no position; if it gets none, start its readers again",
                    self.number
                ),
                SOON,
            );
        };
        if matches!(intake, Intake::UpTo(boundary) if found.position >= boundary) {
            return Next::Wait(
                "waiting for the other shards to come to where their number changes".into(),
                SOON,
            );
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if found.owner.is_some() {
            state.free_since = None;
            return Next::Claim;
        }
        let polite = (lease / 10 * self.member.holds()).min(lease);
        let free_since = *state.free_since.get_or_insert(now);
        let from = state.left_until.unwrap_or(now).max(free_since + polite);
        match from.saturating_duration_since(now) {
            Duration::ZERO => Next::Claim,
            wait => Next::Wait("leaving a free shard to others for a moment".into(), wait.min(SOON)),
        }
    }

    /// It has the shard.
    pub(crate) fn took(&self) -> Holding {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = SlotState::default();
        self.member.holds.fetch_add(1, Ordering::Relaxed);
        Holding(Arc::clone(&self.member))
    }

    /// It leaves the shard to somebody else.
    pub(crate) fn left(&self, now: Instant) {
        let left_until = Some(now + LEFT_TO_OTHERS);
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) =
            SlotState { free_since: None, left_until };
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.0.holds.fetch_sub(1, Ordering::Relaxed);
        self.0.forget();
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("number", &self.number).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(5);

    fn member() -> Arc<Member> {
        Arc::new(Member::new("g", 4, Arc::new(|_| None)))
    }

    fn survey(owners: &[Option<&str>]) -> Survey {
        let plan = Plan { generation: 1, shards: 4, ..Plan::new(4) };
        let found = |owner: &Option<&str>| Found { position: 0, owner: owner.map(str::to_owned) };
        let shards = (0..).zip(owners.iter().map(found)).collect();
        Survey { text: plan.encode(), plan, shards }
    }

    #[test]
    fn whoever_has_shards_leaves_free_ones_to_others_first_and_takes_them_when_nobody_does() {
        let (member, now) = (member(), Instant::now());
        let free = survey(&[None; 4]);
        let slot = |number| Slot::new(member.clone(), number);
        assert_eq!(slot(0).next(&free, LEASE, now), Next::Claim);
        let _holding = [slot(0).took(), slot(1).took()];
        let third = slot(2);
        assert!(matches!(third.next(&free, LEASE, now), Next::Wait(..)));
        assert!(matches!(third.next(&free, LEASE, now + Duration::from_millis(900)), Next::Wait(..)));
        assert_eq!(third.next(&free, LEASE, now + Duration::from_secs(1)), Next::Claim);
    }

    #[test]
    fn a_process_without_a_shard_asks_for_one_where_another_has_two_more() {
        let (asks, gives, now) = (member(), member(), Instant::now());
        let owner = |number| format!("{}/{number}", gives.id);
        let owners = [owner(0), owner(1), owner(2)];
        let all = survey(&[Some(&owners[0]), Some(&owners[1]), Some(&owners[2]), Some("other/3")]);
        let asked = asks.ask(&all, now).unwrap();
        assert!(asks.ask(&all, now).is_none(), "it has just asked");
        assert_eq!(gives.give(&asked), None, "it has not so many");
        let slots = [0, 1, 2].map(|number| Slot::new(gives.clone(), number));
        let [slot, ..] = &slots;
        let _holding = slots.each_ref().map(Slot::took);
        assert_eq!(gives.give(&asked).unwrap().ask, None);
        assert_eq!(asks.give(&asked), None);
        slot.left(now);
        assert!(matches!(slot.next(&survey(&[None; 4]), LEASE, now), Next::Wait(..)));
    }

    #[test]
    fn who_has_asked_one_that_has_fewer_by_now_asks_again() {
        let (asks, now) = (member(), Instant::now());
        let three = survey(&[Some("a/0"), Some("a/1"), Some("a/2"), Some("b/3")]);
        let plan = asks.ask(&three, now).unwrap();
        // One of the three went to a third process.
        let two = survey(&[Some("a/0"), Some("a/1"), Some("c/2"), Some("b/3")]);
        let two = Survey { text: plan.encode(), plan, ..two };
        assert!(asks.ask(&two, now).is_none(), "it has just asked");
        let later = now + ASK_INTERVAL;
        assert_eq!(asks.ask(&two, later).unwrap().ask, Some(Ask { by: asks.id.clone(), of_who_has: 2 }));
    }

    #[test]
    fn who_has_nearly_as_many_does_not_ask() {
        let (asks, now) = (member(), Instant::now());
        assert!(asks.ask(&survey(&[Some("a/0"), Some("b/1"), Some("c/2"), Some("d/3")]), now).is_none());
    }

    #[test]
    fn a_shard_that_is_through_waits_for_the_others_and_one_that_is_not_is_claimed() {
        let mut survey = survey(&[None; 4]);
        survey.plan = survey.plan.want(2).close().unwrap().set_boundary(5).unwrap();
        survey.shards[1].1.position = 5;
        let next = |number| Slot::new(member(), number).next(&survey, LEASE, Instant::now());
        assert_eq!(next(0), Next::Claim);
        assert!(matches!(next(1), Next::Wait(..)));
        assert!(matches!(next(7), Next::Wait(..)));
    }
}
