//! What a message costs from `publish` to an acked handler, beside a bare channel in the same run.
//!
//! ```text
//! cargo bench -p watermill-core --bench router -- [filter] [--json]
//! ```
//!
//! Allocations are counted, times are the best of several rounds, taken in turn with the floor's.
//! `--count-workload NAME --messages N` runs one workload and nothing else, for callgrind.

mod figure;
mod workloads;

use std::time::Instant;

use tokio::runtime::{Builder, Runtime};

use figure::{Figure, print};
use workloads::{Running, Workload};

/// Messages in a round: long enough for start-up to vanish, short enough for many rounds.
const ROUND: u64 = 20_000;
const ROUNDS: usize = 15;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let (mut json, mut filter, mut workload, mut messages) = (false, None, None, ROUND);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--json" => json = true,
            "--count-workload" => workload = args.next(),
            "--messages" => messages = args.next().and_then(|n| n.parse().ok()).expect("--messages N"),
            _ => filter = Some(arg),
        }
    }
    if let Some(name) = workload {
        let workload = Workload::named(&name).unwrap_or_else(|| panic!("no workload {name:?}"));
        return current_thread().block_on(async {
            let running = workload.start().await;
            running.move_messages(messages).await;
        });
    }
    let figures: Vec<Figure> = allocations().into_iter().chain(times()).chain([pipelining()]).collect();
    let wanted = |figure: &Figure| filter.as_ref().is_none_or(|filter| figure.name.contains(filter.as_str()));
    print(figures.into_iter().filter(wanted), json);
}

/// Allocations per message on one thread, payload included.
fn allocations() -> Vec<Figure> {
    let count = |workload: Workload| {
        let runtime = current_thread();
        let running = runtime.block_on(workload.start());
        // Once before, so that what grows to its size has grown.
        runtime.block_on(running.move_messages(ROUND));
        let counted = allocation_counter::measure(|| runtime.block_on(running.move_messages(ROUND)));
        running.stop();
        (counted.count_total as f64 / ROUND as f64 * 100.0).round() / 100.0
    };
    let floor = count(Workload::Floor);
    let one_hop = count(Workload::OneHop);
    let figure = |name: &str, value, baseline, limit| {
        Figure::new(format!("allocations/{name}"), value, "allocations per message")
            .against(baseline)
            .at_most(limit)
    };
    vec![
        figure("floor", floor, floor, f64::INFINITY),
        figure("publish-handle", one_hop, floor, 4.0),
        figure("publish-handle-publish-handle", count(Workload::TwoHops), floor, 7.0),
        figure("layers-5", count(Workload::HandlerLayers), one_hop, one_hop),
        figure("router-layers-5", count(Workload::RouterLayers), one_hop, one_hop),
        figure("boxed-layer", count(Workload::BoxedLayer), one_hop, one_hop + 1.0),
    ]
}

/// Microseconds per message, on one thread and on two.
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
