//! [`Lanes`]: all lanes of a handler, and which of them can go on.

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
};

use futures::task::AtomicWaker;

use super::{Environment, lane::Lane};
use crate::{Delivery, router::MessageService};

/// One lane that is polled with the worker, or a table of lanes each with a waker of its own.
///
/// With a waker for each lane, a worker with hundreds of lanes polls those that can go on and no
/// others, and a message costs no allocation beyond its lane's.
pub(super) enum Lanes<'w, S: MessageService> {
    One(Pin<Box<Lane<'w, S>>>),
    Many(Table<'w, S>),
}

pub(super) struct Table<'w, S: MessageService> {
    env: &'w Environment,
    broken: &'w OnceLock<String>,
    slots: Vec<Slot<'w, S>>,
    /// Slots with nothing in hand.
    idle: Vec<usize>,
    /// Which slot serves a scope or key, while it has something in hand.
    by_lane: HashMap<u64, usize>,
    /// Slots with a message that needs the service.
    due: VecDeque<usize>,
    /// Deliveries that wait their turn in some lane.
    waiting: usize,
    accepted: u64,
    awake: Arc<Awake>,
}

struct Slot<'w, S: MessageService> {
    lane: Pin<Box<Lane<'w, S>>>,
    /// The scope or key it serves.
    serves: Option<u64>,
    is_due: bool,
    waker: Arc<LaneWaker>,
}

/// The slots that were woken since they were polled last.
#[derive(Default)]
struct Awake {
    slots: Mutex<Vec<usize>>,
    worker: AtomicWaker,
}

struct LaneWaker {
    slot: usize,
    is_awake: AtomicBool,
    awake: Arc<Awake>,
}

impl<'w, S: MessageService> Lanes<'w, S> {
    pub(super) fn new(env: &'w Environment, broken: &'w OnceLock<String>) -> Self {
        if env.concurrency.is_sequential(env.ordering) {
            return Self::One(Box::pin(Lane::new(env, broken)));
        }
        Self::Many(Table {
            env,
            broken,
            slots: Vec::new(),
            idle: Vec::new(),
            by_lane: HashMap::new(),
            due: VecDeque::new(),
            waiting: 0,
            accepted: 0,
            awake: Arc::default(),
        })
    }

    /// Remembers whom to wake.
    pub(super) fn register(&self, cx: &Context<'_>) {
        if let Self::Many(table) = self {
            table.awake.worker.register(cx.waker());
        }
    }

    /// Goes on wherever it is possible.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        match self {
            Self::One(lane) => lane.as_mut().poll(cx),
            Self::Many(table) => table.poll(),
        }
    }

    /// Whether a message in some lane needs the service.
    pub(super) fn has_call_due(&mut self) -> bool {
        match self {
            Self::One(lane) => lane.state().has_call_due(),
            Self::Many(table) => table.has_call_due(),
        }
    }

    /// Whether another delivery can be taken.
    pub(super) fn has_room(&self) -> bool {
        match self {
            Self::One(lane) => lane.state().is_free(),
            Self::Many(table) => {
                let lanes_max = table.env.concurrency.lanes_max();
                table.slots.len() - table.idle.len() < lanes_max
                    || table.waiting < table.env.concurrency.waiting_max()
            }
        }
    }

    /// Whether nothing is in hand anywhere.
    pub(super) fn is_quiet(&self) -> bool {
        match self {
            Self::One(lane) => lane.state().is_quiet(),
            Self::Many(table) => table.idle.len() == table.slots.len(),
        }
    }

    /// Hands a delivery to its lane, and goes on there; the service is ready.
    pub(super) fn accept(&mut self, delivery: Delivery, service: &mut S, cx: &mut Context<'_>) {
        match self {
            Self::One(lane) => lane.as_mut().accept(delivery, service, cx),
            Self::Many(table) => table.accept(delivery, service),
        }
    }

    /// Calls the service, which is ready, for a message that needs it; says whether there was one.
    pub(super) fn call_due(&mut self, service: &mut S, cx: &mut Context<'_>) -> bool {
        match self {
            Self::One(lane) if lane.state().has_call_due() => {
                lane.as_mut().call_due(service, cx);
            }
            Self::One(_) => return false,
            Self::Many(table) => return table.call_due(service),
        }
        true
    }

    /// The handler has failed for good: gives back what it has not begun, and lets the rest end.
    pub(super) fn give_back(&mut self, cx: &mut Context<'_>) {
        match self {
            Self::One(lane) => {
                lane.as_mut().give_back();
                lane.as_mut().poll(cx);
            }
            Self::Many(table) => {
                for at in 0..table.slots.len() {
                    table.with_lane(at, |mut lane, cx| {
                        lane.as_mut().give_back();
                        lane.poll(cx);
                    });
                }
            }
        }
    }

    /// Waits for no retry any more.
    pub(super) fn stop_waiting(&mut self) {
        match self {
            Self::One(lane) => lane.as_mut().hurry(),
            Self::Many(table) => {
                for slot in &mut table.slots {
                    slot.lane.as_mut().hurry();
                    slot.waker.wake_by_ref();
                }
            }
        }
    }
}

impl<S: MessageService> Table<'_, S> {
    /// Whether a lane needs the service; forgets those that needed it and have given back since.
    fn has_call_due(&mut self) -> bool {
        while let Some(at) = self.due.front() {
            let slot = &mut self.slots[*at];
            if slot.lane.state().has_call_due() {
                return true;
            }
            slot.is_due = false;
            self.due.pop_front();
        }
        false
    }

    fn poll(&mut self) {
        // One round: a lane that wakes itself again has its next turn when the worker has.
        let woken = std::mem::take(&mut *self.awake.lock());
        for at in woken {
            self.with_lane(at, |lane, cx| lane.poll(cx));
        }
    }

    /// Lets a lane go on, with its own waker.
    fn with_lane(&mut self, at: usize, go_on: impl FnOnce(Pin<&mut Lane<'_, S>>, &mut Context<'_>)) {
        let slot = &mut self.slots[at];
        // Before the poll: a wake-up during it must not be lost.
        slot.waker.is_awake.store(false, Ordering::Release);
        let waker = Waker::from(slot.waker.clone());
        let waiting_elsewhere = self.waiting - slot.lane.state().waiting();
        go_on(slot.lane.as_mut(), &mut Context::from_waker(&waker));
        self.waiting = waiting_elsewhere + slot.lane.state().waiting();
        self.note(at);
    }

    /// Files a slot by what it can do next.
    fn note(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        if slot.lane.state().has_call_due() {
            if !slot.is_due {
                slot.is_due = true;
                self.due.push_back(at);
            }
        } else if slot.lane.state().is_quiet()
            && let Some(serves) = slot.serves.take()
        {
            self.by_lane.remove(&serves);
            self.idle.push(at);
        }
    }

    fn accept(&mut self, delivery: Delivery, service: &mut S) {
        // A delivery that may go anywhere is a lane of its own.
        self.accepted += 1;
        let serves = self.env.concurrency.lane(&delivery).unwrap_or(self.accepted);
        let at = match self.by_lane.get(&serves) {
            Some(at) => *at,
            None => {
                let at = self.idle.pop().unwrap_or_else(|| self.add_slot());
                self.by_lane.insert(serves, at);
                self.slots[at].serves = Some(serves);
                at
            }
        };
        self.with_lane(at, |lane, cx| lane.accept(delivery, service, cx));
    }

    fn call_due(&mut self, service: &mut S) -> bool {
        while let Some(at) = self.due.pop_front() {
            let slot = &mut self.slots[at];
            slot.is_due = false;
            if slot.lane.state().has_call_due() {
                self.with_lane(at, |lane, cx| lane.call_due(service, cx));
                return true;
            }
        }
        false
    }

    fn add_slot(&mut self) -> usize {
        let slot = self.slots.len();
        self.slots.push(Slot {
            lane: Box::pin(Lane::new(self.env, self.broken)),
            serves: None,
            is_due: false,
            waker: Arc::new(LaneWaker { slot, is_awake: AtomicBool::new(false), awake: self.awake.clone() }),
        });
        slot
    }
}

impl Awake {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<usize>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for LaneWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_awake.swap(true, Ordering::AcqRel) {
            self.awake.lock().push(self.slot);
            self.awake.worker.wake();
        }
    }
}
