//! Relays over a scripted source and a destination with bad weather, by the paused clock: a seed is a schedule.
//!
//! Messages are published while destinations go away, hang, refuse, accept in part and lose their answers, while
//! relays are killed, stopped, frozen and started again, while the source records late and takes messages away. Then
//! the weather is fair, and what has arrived is checked.
//!
//! `WATERMILL_SIMULATION_SEEDS` says which schedules are run: so many, or those `from..to`, as when one is looked at
//! again. What a schedule finds is kept as a test of its own beside those of the relay: a seed means something else when
//! the simulation changes.

mod fenced;
mod forwarder;
mod outbox;

use std::{env, ops::Range, time::Duration};

use tokio::runtime::Builder;

/// How many schedules are run of each when nothing is said.
const SEEDS: u64 = 1_000;

/// How long the weather is bad.
const STORM: Duration = Duration::from_secs(3);

/// Within what time everything has arrived afterwards: calls that hang have to end, and waits that have grown.
const CALM: Duration = Duration::from_secs(60);

const CALL_TIMEOUT: Duration = Duration::from_secs(3);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPTS: u32 = 3;

/// Plays schedules, each in a runtime of its own, whose clock does not run but jumps.
fn play(schedule: impl AsyncFn(u64)) {
    for seed in seeds() {
        let runtime =
            Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        runtime.block_on(schedule(seed));
    }
}

fn seeds() -> Range<u64> {
    const VARIABLE: &str = "WATERMILL_SIMULATION_SEEDS";
    let Ok(text) = env::var(VARIABLE) else { return 0..SEEDS };
    let number = |text: &str| {
        text.parse().unwrap_or_else(|_| panic!("{VARIABLE} is {text:?}, neither a number nor from..to"))
    };
    match text.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => 0..number(&text),
    }
}

#[test]
fn no_schedule_loses_invents_reorders_or_stalls_and_duplicates_are_bounded() {
    play(forwarder::play);
}

#[test]
fn no_schedule_of_a_fenced_relay_loses_invents_reorders_stalls_or_repeats() {
    play(fenced::play);
}
