//! How often a message allocates from `publish` to an acked handler, payload included.
//!
//! ```text
//! cargo bench -p watermill-core --bench allocations -- [filter] [--json]
//! ```
//!
//! The counts are the same in every run; one above its limit is a failure.

#[path = "router/figure.rs"]
mod figure;
#[path = "router/workloads.rs"]
mod workloads;

use tokio::runtime::Builder;

use figure::{Figure, Options};
use workloads::Workload;

/// Messages that are counted: enough for what happens once in a while to weigh little.
const MESSAGES: u64 = 20_000;

fn main() {
    let options = Options::parse(std::env::args());
    figure::print_and_check(figures(), &options);
}

fn figures() -> Vec<Figure> {
    let floor = count(Workload::Floor);
    let one_hop = count(Workload::OneHop);
    let figure = |name: &str, value, baseline| {
        Figure::new(format!("allocations/{name}"), value, "allocations per message").against(baseline)
    };
    vec![
        figure("floor", floor, floor),
        figure("publish-handle", one_hop, floor).at_most(4.0),
        figure("publish-handle-publish-handle", count(Workload::TwoHops), floor).at_most(7.0),
        figure("layers-5", count(Workload::HandlerLayers), one_hop).at_most(one_hop),
        figure("router-layers-5", count(Workload::RouterLayers), one_hop).at_most(one_hop),
        figure("boxed-layer", count(Workload::BoxedLayer), one_hop).at_most(one_hop + 1.0),
    ]
}

/// Allocations per message, on one thread.
fn count(workload: Workload) -> f64 {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let running = runtime.block_on(workload.start());
    // Once before, so that what grows to its size has grown.
    runtime.block_on(running.move_messages(MESSAGES));
    let counted = allocation_counter::measure(|| runtime.block_on(running.move_messages(MESSAGES)));
    running.stop();
    (counted.count_total as f64 / MESSAGES as f64 * 100.0).round() / 100.0
}
