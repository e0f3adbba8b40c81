//! How often a message allocates from `publish` to an acked handler, payload included.
//!
//! ```text
//! cargo bench -p watermill-core --bench allocations -- [--json]
//! ```
//!
//! The counts are the same in every run; one above its limit is a failure.

#[path = "router/workloads.rs"]
mod workloads;

use tokio::runtime::Builder;
use watermill_testkit::{
    Figure, Figures, Limit,
    allocations::{self, COUNTING, CountingAllocator},
};

use workloads::Workload;

#[global_allocator]
static ALLOCATOR: &CountingAllocator = &COUNTING;

/// Messages that are counted: enough for what happens once in a while to weigh little.
const MESSAGES: u64 = 20_000;

fn main() {
    let one_hop = per_message(Workload::OneHop);
    let mut figures = Figures::from_args();
    for workload in Workload::ALL {
        let name = format!("allocations/{}", workload.name());
        let figure = Figure::new(name, per_message(workload), "allocations per message");
        figures.push(match workload {
            Workload::Floor => figure,
            Workload::OneHop | Workload::TwoHops => figure.limit(Limit::AtMost(2.0)),
            Workload::NewMessage => figure.limit(Limit::AtMost(3.0)),
            Workload::HandlerLayers
            | Workload::RouterLayers
            | Workload::SpanUnheard
            | Workload::Merged
            | Workload::MergedLayers => figure.limit(Limit::AtMost(one_hop)),
            Workload::SpanHeard => figure,
            Workload::BoxedLayer => figure.limit(Limit::AtMost(one_hop + 1.0)),
        });
    }
    figures.print();
    assert!(figures.are_within(), "a count is above its limit");
}

/// Allocations per message, on one thread.
fn per_message(workload: Workload) -> f64 {
    let _log = workload.log();
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let running = runtime.block_on(workload.start());
    // Once before, so that what grows to its size has grown.
    runtime.block_on(running.move_messages(MESSAGES));
    let before = allocations::count();
    runtime.block_on(running.move_messages(MESSAGES));
    let counted = allocations::count() - before;
    running.stop();
    (counted as f64 / MESSAGES as f64 * 100.0).round() / 100.0
}
