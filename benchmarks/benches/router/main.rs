//! What a message costs from `publish` to an acked handler, beside a bare channel in the same run.
//!
//! ```text
//! cargo bench -p watermill-benchmarks --bench router -- [--json]
//! ```
//!
//! Times are the best of several rounds, taken in turn with the floor's. Allocations have a benchmark
//! of their own, because counting them costs time. `--count-workload NAME --messages N` runs one
//! workload and nothing else, for callgrind.

#[path = "../contenders/mod.rs"]
mod contenders;
mod pipelining;

use tokio::{
    runtime::{Builder, Runtime},
    time::Instant,
};
use watermill_benchmarks::Workload;
use watermill_testkit::{Figure, Figures};

use contenders::{Contender, Running, rival};

/// Messages in a round: long enough for start-up to vanish, short enough for many rounds.
const ROUND: u64 = 20_000;
const ROUNDS: usize = 15;

/// What is timed; the first is what the others are compared with.
const TIMED: [Contender; 6] = [
    Contender::Ours(Workload::Floor),
    Contender::Rival(rival::Workload::OneHop),
    Contender::Ours(Workload::OneHop),
    Contender::Rival(rival::Workload::TwoHops),
    Contender::Ours(Workload::TwoHops),
    Contender::Ours(Workload::HandlerLayers),
];

fn main() {
    if let Some((contender, messages)) = counted_workload() {
        let _log = contender.log();
        return current_thread().block_on(async {
            let running = contender.start().await;
            running.move_messages(messages).await;
        });
    }
    let mut figures = Figures::from_args();
    times(&mut figures, "current-thread", &current_thread());
    times(&mut figures, "two-workers", &two_workers());
    figures.push(pipelining::figure());
    figures.print();
    assert!(figures.are_within(), "a figure misses its limit");
}

/// What `--count-workload` asks for.
fn counted_workload() -> Option<(Contender, u64)> {
    let args: Vec<String> = std::env::args().collect();
    let value = |name: &str| args.iter().skip_while(|arg| *arg != name).nth(1);
    let name = value("--count-workload")?;
    let contender = Contender::all().find(|contender| contender.name() == name);
    let messages = value("--messages").and_then(|messages| messages.parse().ok());
    Some((contender.expect("a workload's name"), messages.expect("--messages takes a number")))
}

/// Microseconds per message.
fn times(figures: &mut Figures, threads: &str, runtime: &Runtime) {
    let running: Vec<Running> = TIMED.iter().map(|contender| runtime.block_on(contender.start())).collect();
    let mut best = [f64::INFINITY; TIMED.len()];
    // In turn, so that what else the machine does hits all of them alike.
    for _ in 0..ROUNDS {
        for (running, best) in running.iter().zip(&mut best) {
            let started = Instant::now();
            runtime.block_on(running.move_messages(ROUND));
            *best = best.min(started.elapsed().as_secs_f64() / ROUND as f64 * 1e6);
        }
    }
    running.into_iter().for_each(|running| runtime.block_on(running.stop()));
    for (contender, time) in TIMED.iter().zip(best) {
        let name = format!("time/{threads}/{}", contender.name());
        figures.push(Figure::new(name, time, "microseconds per message").baseline(best[0]));
    }
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime")
}

fn two_workers() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime")
}
