//! Counting the allocations of a program, for benchmarks.

use std::alloc::System;

/// An allocator that counts: the system's own, with process-wide counters. A benchmark installs it:
///
/// ```
/// use watermill_testkit::allocations::{self, COUNTING, CountingAllocator};
///
/// #[global_allocator]
/// static ALLOCATOR: &CountingAllocator = &COUNTING;
///
/// let before = allocations::count();
/// let text = "some text".to_owned();
/// assert!(allocations::count() > before);
/// # drop(text);
/// ```
///
/// Other threads are counted too, so count over many repetitions, and with nothing else going on.
pub type CountingAllocator = stats_alloc::StatsAlloc<System>;

pub use stats_alloc::INSTRUMENTED_SYSTEM as COUNTING;

/// How many allocations were made so far, growing an existing one included. Always 0 when the
/// [`CountingAllocator`] is not installed.
pub fn count() -> usize {
    let stats = COUNTING.stats();
    stats.allocations + stats.reallocations
}
