//! What a message costs in the router, from a publish in memory to an acked handler: the workloads of the
//! benchmarks `router` and `allocations`, which print it beside what a router cannot go below and beside
//! the fastest rival.
//!
//! The rival is a dependency of the benchmarks alone, in a crate that is not published and that a plain
//! `cargo build` or `cargo test` leaves out.

mod counter;
mod layers;
mod workloads;

pub use counter::Counter;
pub use workloads::{BODY, Running, WAITING_MAX, Workload};
