//! The relay over a scripted source and a destination with bad weather, by the paused clock: a seed is a schedule.
//!
//! Messages are published while destinations go away, hang, refuse, accept in part and lose their answers, while the
//! relay is killed, stopped and started again, while the source records late and takes messages away. Then the weather
//! is fair, and what has arrived is checked. `WATERMILL_SIMULATION_SEEDS` says how many schedules are run.
//! What a schedule finds is kept as a test of its own beside those of the relay: a seed means something else when the
//! simulation changes.

mod destination;
mod world;

use std::env;

use tokio::runtime::Builder;

/// How many schedules are run when nothing is said.
const SEEDS: u64 = 1_000;

fn run(seed: u64) {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(world::play(seed));
}

#[test]
fn no_schedule_loses_invents_reorders_or_stalls_and_duplicates_are_bounded() {
    let seeds = env::var("WATERMILL_SIMULATION_SEEDS");
    let seeds = seeds.map_or(SEEDS, |seeds| seeds.parse().expect("WATERMILL_SIMULATION_SEEDS is a number"));
    (0..seeds).for_each(run);
}
