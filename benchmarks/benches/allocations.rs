//! How often a message allocates from `publish` to an acked handler, payload included.
//!
//! ```text
//! cargo bench -p watermill-benchmarks --bench allocations -- [--json]
//! ```
//!
//! The counts are the same in every run; one above its limit is a failure.

#[path = "contenders/mod.rs"]
mod contenders;

use tokio::runtime::Builder;
use watermill_benchmarks::Workload;
use watermill_testkit::{
    Figure, Figures, Limit,
    allocations::{self, COUNTING, CountingAllocator},
};

use contenders::Contender;

#[global_allocator]
static ALLOCATOR: &CountingAllocator = &COUNTING;

/// Messages that are counted: enough for what happens once in a while to weigh little.
const MESSAGES: u64 = 20_000;

fn main() {
    let one_hop = per_message(Contender::Ours(Workload::OneHop));
    let mut figures = Figures::from_args();
    for contender in Contender::all() {
        let name = format!("allocations/{}", contender.name());
        let figure = Figure::new(name, per_message(contender), "allocations per message");
        figures.push(match limit(contender, one_hop) {
            Some(limit) => figure.limit(limit),
            None => figure,
        });
    }
    figures.print();
    assert!(figures.are_within(), "a count is above its limit");
}

fn limit(contender: Contender, one_hop: f64) -> Option<Limit> {
    let Contender::Ours(workload) = contender else { return None };
    let most = match workload {
        Workload::Floor | Workload::SpanHeard | Workload::TracesHeard => return None,
        Workload::OneHop | Workload::TwoHops => 2.0,
        Workload::NewMessage => 3.0,
        Workload::HandlerLayers
        | Workload::RouterLayers
        | Workload::SpanUnheard
        | Workload::Merged
        | Workload::MergedLayers
        | Workload::Metrics
        | Workload::MetricsLayer
        | Workload::TracesUnheard => one_hop,
        Workload::BoxedLayer => one_hop + 1.0,
    };
    Some(Limit::AtMost(most))
}

/// Allocations per message, on one thread.
fn per_message(contender: Contender) -> f64 {
    let _log = contender.log();
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let running = runtime.block_on(contender.start());
    // Once before, so that what grows to its size has grown.
    runtime.block_on(running.move_messages(MESSAGES));
    let before = allocations::count();
    runtime.block_on(running.move_messages(MESSAGES));
    let counted = allocations::count() - before;
    runtime.block_on(running.stop());
    (counted as f64 / MESSAGES as f64 * 100.0).round() / 100.0
}
