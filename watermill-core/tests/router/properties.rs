//! What holds for any schedule: handlers that succeed, fail, panic and take their time at random.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use watermill_core::{Backoff, FailurePolicy, Handler, Message, State, delivery::Outcome};
use watermill_testkit::{RecordingPublisher, ScriptedDelivery, ScriptedSubscriber};

use crate::{Running, ids, router};

const MESSAGES: usize = 60;
const LANES: u64 = 4;

/// How a handler is run.
#[derive(Clone, Copy, Debug)]
enum Mode {
    Scopes,
    OneScope,
    Keys,
    Unordered,
}

#[derive(Clone)]
struct Chaos {
    rng: Arc<Mutex<Rng>>,
    /// The order in which messages were handled with success, by lane.
    handled: Arc<Mutex<HashMap<String, Vec<usize>>>>,
    running: Arc<AtomicUsize>,
    running_max: Arc<AtomicUsize>,
}

/// Takes a random time, then fails or panics now and then.
async fn unreliable(State(chaos): State<Chaos>, message: Message) -> Result<Message, &'static str> {
    struct Leave(Arc<AtomicUsize>);
    impl Drop for Leave {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let now = chaos.running.fetch_add(1, Ordering::SeqCst) + 1;
    chaos.running_max.fetch_max(now, Ordering::SeqCst);
    let _leave = Leave(chaos.running.clone());
    let (pause, fate) = {
        let mut rng = chaos.rng.lock().unwrap();
        (rng.u64(0..4), rng.u8(0..10))
    };
    if pause > 0 {
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    match fate {
        0 | 1 => Err("it happens"),
        2 => panic!("it happens"),
        _ => {
            let lane = message.metadata().get("lane").unwrap_or_default().to_owned();
            let number = message.id().parse().unwrap();
            chaos.handled.lock().unwrap().entry(lane).or_default().push(number);
            Ok(message)
        }
    }
}

async fn run(seed: u64, mode: Mode) {
    let mut rng = Rng::with_seed(seed);
    let source = ScriptedSubscriber::new().redeliver(true);
    let target =
        RecordingPublisher::new().keeps_order(rng.bool()).with_latency(Duration::from_millis(rng.u64(0..3)));
    for number in 0..MESSAGES {
        let lane = rng.u64(0..LANES);
        let message = Message::with_id(number.to_string(), "x")
            .with_metadata("lane", lane.to_string())
            .with_key(lane.to_string());
        let scope = if matches!(mode, Mode::Scopes) { lane } else { 0 };
        source.push(ScriptedDelivery::new(message).scope(scope));
    }
    let chaos = Chaos {
        rng: Arc::new(Mutex::new(rng.fork())),
        handled: Arc::default(),
        running: Arc::default(),
        running_max: Arc::default(),
    };
    let quick = Backoff::constant(Duration::from_millis(1));
    let policy = FailurePolicy::retry(rng.u32(0..3)).backoff(quick).nack_backoff(quick);
    let handler = Handler::new("unreliable", unreliable)
        .from(source.clone(), "in")
        .to(target.clone(), "out")
        .on_failure(policy)
        .pipeline(rng.usize(0..5));
    let (handler, limit) = match mode {
        Mode::Scopes => (handler.scopes(3), 3),
        Mode::OneScope => (handler, 1),
        Mode::Keys => (handler.ordered_by_key(3), 3),
        Mode::Unordered => (handler.concurrency(3), 3),
    };

    // Stopped in the middle and started again, nothing is different.
    let running = Running::start(router().with_state(chaos.clone()).add(handler)).await;
    let acked = || source.outcomes().iter().filter(|(_, outcome)| *outcome == Outcome::Ack).count();
    while acked() < MESSAGES {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    running.stop().await.unwrap();

    assert_eq!(source.outstanding(), 0, "seed {seed}, {mode:?}");
    assert_eq!(acked(), MESSAGES, "each is acked once: seed {seed}, {mode:?}");
    assert!(chaos.running_max.load(Ordering::SeqCst) <= limit, "seed {seed}, {mode:?}");
    let mut published = ids(&target.published("out"));
    published.sort();
    published.dedup();
    assert_eq!(published.len(), MESSAGES, "nothing is lost: seed {seed}, {mode:?}");
    if !matches!(mode, Mode::Unordered) {
        for (lane, mut numbers) in chaos.handled.lock().unwrap().clone() {
            // No publish fails here, so a success is final: none is repeated, none overtakes.
            let handled = numbers.clone();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(handled, numbers, "lane {lane}: seed {seed}, {mode:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_repeated_or_overtaken_whatever_handlers_do() {
    for seed in 0..60 {
        for mode in [Mode::Scopes, Mode::OneScope, Mode::Keys, Mode::Unordered] {
            run(seed, mode).await;
        }
    }
}
