//! [`Table`]: many lanes, and which of them can go on.

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Wake, Waker},
};

use super::{
    Environment,
    awake::{Awake, LaneWaker},
    group::Groups,
    lane::Lane,
    readiness::Readiness,
};
use crate::{Message, Settlement, panic::catch_payload, router::MessageService};

/// Lanes by number, each with a waker of its own. A lane that has nothing in hand is used again, so a message
/// costs no allocation beyond its lane's.
pub(super) struct Table<'w, S: MessageService> {
    env: &'w Environment,
    broken: &'w OnceLock<String>,
    slots: Vec<Slot<'w, S>>,
    /// Slots with nothing in hand.
    quiet: Vec<usize>,
    /// Which slot serves a scope or key, while it has something in hand.
    by_lane: HashMap<u64, usize>,
    /// Slots with a message that needs the service.
    due: VecDeque<usize>,
    /// How many lanes cannot take another message.
    busy: usize,
    /// Deliveries that wait their turn in some lane.
    waiting: usize,
    accepted: u64,
    awake: Arc<Awake>,
    /// Outputs of batches.
    groups: Groups<'w>,
}

struct Slot<'w, S: MessageService> {
    lane: Pin<Box<Lane<'w, S>>>,
    /// The scope or key it serves.
    serves: Option<u64>,
    is_due: bool,
    is_busy: bool,
    is_grouped: bool,
    waker: Arc<LaneWaker>,
}

/// How often the lanes of a batch are polled before their outputs are published: as often as its members are
/// woken one by the other. A member that a layer holds back longer is published later.
const ROUNDS: usize = 8;

impl<'w, S: MessageService> Table<'w, S> {
    pub(super) fn new(env: &'w Environment, broken: &'w OnceLock<String>) -> Self {
        Self {
            env,
            broken,
            slots: Vec::new(),
            quiet: Vec::new(),
            by_lane: HashMap::new(),
            due: VecDeque::new(),
            busy: 0,
            waiting: 0,
            accepted: 0,
            awake: Arc::default(),
            groups: Groups::default(),
        }
    }

    pub(super) fn register(&self, cx: &Context<'_>) {
        self.awake.register(cx.waker());
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        self.poll_woken();
        if self.env.is_batch {
            for _ in 1..ROUNDS {
                self.poll_woken();
            }
            self.poll_groups(cx);
        }
    }

    pub(super) fn readiness(&mut self) -> Readiness {
        if self.has_call_due() {
            Readiness::CallDue
        } else if self.has_room() {
            Readiness::Room
        } else {
            Readiness::Busy
        }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.quiet.len() == self.slots.len()
    }

    pub(super) fn accept(&mut self, message: Message, settlement: Settlement, service: &mut S) {
        // A delivery that may go anywhere is a lane of its own.
        self.accepted += 1;
        let serves = self.env.concurrency.lane(&message, settlement.info().token());
        let serves = serves.unwrap_or(self.accepted);
        let at = match self.by_lane.get(&serves) {
            Some(at) => *at,
            None => {
                let at = self.quiet.pop().unwrap_or_else(|| self.add_slot());
                self.by_lane.insert(serves, at);
                self.slots[at].serves = Some(serves);
                at
            }
        };
        self.with_lane(at, |lane, cx| lane.accept(message, settlement, service, cx));
    }

    pub(super) fn call_due(&mut self, service: &mut S) -> bool {
        while let Some(at) = self.due.pop_front() {
            let slot = &mut self.slots[at];
            slot.is_due = false;
            if slot.lane.state().readiness() == Readiness::CallDue {
                self.with_lane(at, |lane, cx| {
                    lane.call_due(service, cx);
                });
                return true;
            }
        }
        false
    }

    pub(super) fn give_back(&mut self) {
        for at in 0..self.slots.len() {
            self.with_lane(at, |mut lane, cx| {
                lane.as_mut().give_back();
                lane.poll(cx);
            });
        }
    }

    /// Whether a lane needs the service; forgets those that needed it and have given back since.
    fn has_call_due(&mut self) -> bool {
        while let Some(at) = self.due.front() {
            let slot = &mut self.slots[*at];
            if slot.lane.state().readiness() == Readiness::CallDue {
                return true;
            }
            slot.is_due = false;
            self.due.pop_front();
        }
        false
    }

    fn has_room(&self) -> bool {
        self.busy < self.env.concurrency.lanes_max() && self.waiting < self.env.concurrency.ahead_max()
    }

    /// One round: a lane that wakes itself again has its next turn in the next.
    fn poll_woken(&mut self) {
        for at in self.awake.take() {
            self.with_lane(at, |lane, cx| lane.poll(cx));
        }
    }

    /// Publishes what the lanes of a batch have, and tells them what became of it.
    fn poll_groups(&mut self, cx: &mut Context<'_>) {
        loop {
            if self.groups.is_idle() {
                let slots = &mut self.slots;
                let env = self.env;
                self.groups.begin(&env.sink, |at| {
                    slots[at].is_grouped = false;
                    slots[at].lane.as_mut().state_mut().take_grouped()
                });
            }
            let Some(results) = self.groups.poll(self.env.info.spans(), cx) else { break };
            for (at, result) in results {
                self.with_lane(at, |mut lane, cx| {
                    lane.as_mut().state_mut().published(result);
                    lane.poll(cx);
                });
            }
        }
        // Those that were lost have nothing to publish and are quiet now.
        for at in self.groups.take_dropped() {
            self.note(at);
        }
    }

    /// Lets a lane go on, with its own waker.
    fn with_lane(&mut self, at: usize, go_on: impl FnOnce(Pin<&mut Lane<'_, S>>, &mut Context<'_>)) {
        let slot = &mut self.slots[at];
        slot.waker.polls();
        let waker = Waker::from(slot.waker.clone());
        let waiting_elsewhere = self.waiting - slot.lane.state().waiting();
        let mut cx = Context::from_waker(&waker);
        if let Err(payload) = catch_payload(|| go_on(slot.lane.as_mut(), &mut cx)) {
            slot.lane.as_mut().panicked(payload);
            slot.waker.wake_by_ref();
        }
        self.waiting = waiting_elsewhere + slot.lane.state().waiting();
        self.note(at);
    }

    /// Files a slot by what it can do next.
    fn note(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        let state = slot.lane.state();
        let is_busy = !state.is_free();
        self.busy = self.busy + usize::from(is_busy) - usize::from(slot.is_busy);
        slot.is_busy = is_busy;
        if state.readiness() == Readiness::CallDue {
            if !slot.is_due {
                slot.is_due = true;
                self.due.push_back(at);
            }
        } else if state.is_quiet()
            && let Some(serves) = slot.serves.take()
        {
            self.by_lane.remove(&serves);
            self.quiet.push(at);
        } else if !slot.is_grouped
            && state.has_grouped()
            && let Some(number) = slot.serves
        {
            slot.is_grouped = true;
            self.groups.add(number, at);
            // It is published when the worker polls the lanes, together with those that are through by then.
            slot.waker.wake_by_ref();
        }
    }

    fn add_slot(&mut self) -> usize {
        let slot = self.slots.len();
        self.slots.push(Slot {
            lane: Box::pin(Lane::new(self.env, self.broken)),
            serves: None,
            is_due: false,
            is_busy: false,
            is_grouped: false,
            waker: LaneWaker::new(slot, self.awake.clone()),
        });
        slot
    }
}
