//! What a message costs from `publish` to an acked handler, beside a bare channel in the same run.
//!
//! ```text
//! cargo bench -p watermill-core --bench router -- [--json]
//! ```
//!
//! Times are the best of several rounds, taken in turn with the floor's. Allocations have a benchmark
//! of their own, because counting them costs time. `--count-workload NAME --messages N` runs one
//! workload and nothing else, for callgrind.

mod pipelining;
mod workloads;

use tokio::{
    runtime::{Builder, Runtime},
    time::Instant,
};
use watermill_testkit::{Figure, Figures};

use workloads::{Running, Workload};

/// Messages in a round: long enough for start-up to vanish, short enough for many rounds.
const ROUND: u64 = 20_000;
const ROUNDS: usize = 15;

fn main() {
    if let Some((workload, messages)) = counted_workload() {
        let _log = workload.log();
        return current_thread().block_on(async {
            let running = workload.start().await;
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
fn counted_workload() -> Option<(Workload, u64)> {
    let args: Vec<String> = std::env::args().collect();
    let value = |name: &str| args.iter().skip_while(|arg| *arg != name).nth(1);
    let name = value("--count-workload")?;
    let workload = Workload::ALL.into_iter().find(|workload| workload.name() == name);
    let messages = value("--messages").and_then(|messages| messages.parse().ok());
    Some((workload.expect("a workload's name"), messages.expect("--messages takes a number")))
}

/// Microseconds per message.
fn times(figures: &mut Figures, threads: &str, runtime: &Runtime) {
    let workloads = [Workload::Floor, Workload::OneHop, Workload::TwoHops, Workload::HandlerLayers];
    let running: Vec<Running> = workloads.iter().map(|workload| runtime.block_on(workload.start())).collect();
    let mut best = [f64::INFINITY; 4];
    // In turn, so that what else the machine does hits all of them alike.
    for _ in 0..ROUNDS {
        for (running, best) in running.iter().zip(&mut best) {
            let started = Instant::now();
            runtime.block_on(running.move_messages(ROUND));
            *best = best.min(started.elapsed().as_secs_f64() / ROUND as f64 * 1e6);
        }
    }
    running.into_iter().for_each(Running::stop);
    for (workload, time) in workloads.iter().zip(best) {
        let name = format!("time/{threads}/{}", workload.name());
        figures.push(Figure::new(name, time, "microseconds per message").baseline(best[0]));
    }
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime")
}

fn two_workers() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime")
}
