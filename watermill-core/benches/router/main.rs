//! What a message costs from `publish` to an acked handler, beside a bare channel in the same run.
//!
//! ```text
//! cargo bench -p watermill-core --bench router -- [filter] [--json]
//! ```
//!
//! Times are the best of several rounds, taken in turn with the floor's. The benchmark `allocations`
//! counts allocations: it needs an allocator of its own, whose counting would be measured here.
//! `--count-workload NAME --messages N` runs one workload and nothing else, for callgrind.

mod figure;
mod workloads;

use std::time::Instant;

use tokio::runtime::{Builder, Runtime};

use figure::{Figure, Options, print_and_check};
use workloads::{Running, Workload};

/// Messages in a round: long enough for start-up to vanish, short enough for many rounds.
const ROUND: u64 = 20_000;
const ROUNDS: usize = 15;

fn main() {
    let options = Options::parse(std::env::args());
    if let Some((name, messages)) = &options.workload {
        let workload = Workload::named(name).unwrap_or_else(|| panic!("no workload {name:?}"));
        return current_thread().block_on(async {
            let running = workload.start().await;
            running.move_messages(*messages).await;
        });
    }
    let figures: Vec<Figure> = times().into_iter().chain([pipelining()]).collect();
    print_and_check(figures, &options);
}

/// Microseconds per message, on one thread and on two.
#[expect(clippy::disallowed_methods, reason = "real time is what is measured")]
fn times() -> Vec<Figure> {
    let mut figures = Vec::new();
    for (threads, runtime) in [("current-thread", current_thread()), ("two-workers", two_workers())] {
        let workloads = [Workload::Floor, Workload::OneHop, Workload::TwoHops, Workload::HandlerLayers];
        let running: Vec<Running> =
            workloads.iter().map(|workload| runtime.block_on(workload.start())).collect();
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
        let [floor, one_hop, two_hops, layers] = best;
        let figure = |name: &str, value, baseline| {
            Figure::new(format!("time/{threads}/{name}"), value, "microseconds per message").against(baseline)
        };
        figures.push(figure("floor", floor, floor));
        figures.push(figure("publish-handle", one_hop, floor));
        figures.push(figure("publish-handle-publish-handle", two_hops, floor));
        figures.push(figure("layers-5", layers, one_hop));
    }
    figures
}

/// How much a publisher that reports 2 ms later gains from outputs on their way behind each other.
fn pipelining() -> Figure {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    const OUTPUTS: usize = 2_000;
    let (pipelined, one_at_a_time) = runtime.block_on(workloads::pipelining(OUTPUTS));
    let rate = |seconds: f64| OUTPUTS as f64 / seconds;
    Figure::new("pipelining/2ms-report", rate(pipelined), "messages per second of the paused clock")
        .against(rate(one_at_a_time))
        .at_least(50.0 * rate(one_at_a_time))
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime")
}

fn two_workers() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime")
}
