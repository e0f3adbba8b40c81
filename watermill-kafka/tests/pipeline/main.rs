//! Consume, transform, produce, by a group whose members are killed and paused, each a process of its own: for
//! readers of what is committed every message has its output, once, and the outputs of each key are in order.
//!
//! Without the test harness, because the members are this program too.

mod factory;
#[path = "../processes/mod.rs"]
mod processes;
mod worker;

use std::error::Error;

use factory::Factory;
use processes::Processes;

const MESSAGES: usize = 36_000;
const KEYS: usize = 24;
const IDS: usize = 3;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Result {
    match worker::is_one() {
        Some(input) => worker::run(&input).await,
        None => kill_and_pause().await,
    }
}

async fn kill_and_pause() -> Result {
    let factory = Factory::open(MESSAGES, KEYS).await?;
    let mut members = Processes::default();
    let mut started = 0;
    let mut start = |members: &mut Processes| {
        started += 1;
        // An id that is used again fences whoever has it still.
        worker::start(members, factory.input(), started % IDS)
    };
    start(&mut members)?;
    for round in 0..3 {
        start(&mut members)?;
        factory.wait_for_more(900 + 170 * round).await?;
        members.kill(1)?;

        start(&mut members)?;
        factory.wait_for_more(1_000 + 130 * round).await?;
        members.pause(1, async || Ok(true)).await?;
        // The others take its partitions over once its session has ended, and its transaction.
        start(&mut members)?;
        factory.wait_for_more(2_000).await?;
        members.wake_all()?;
        factory.wait_for_more(900).await?;
        members.kill(1)?;
    }
    start(&mut members)?;
    factory.wait_for_all().await?;
    members.kill_all()?;
    // What a killed one has left open is ended by the next of its id, and done again.
    for id in 0..IDS {
        worker::start(&mut members, factory.input(), id)?;
    }
    let outputs = factory.outputs().await?;

    for key in 0..KEYS {
        let of_key: Vec<usize> = outputs.iter().copied().filter(|number| number % KEYS == key).collect();
        let expected: Vec<usize> = (key..MESSAGES).step_by(KEYS).collect();
        let at = of_key.iter().zip(&expected).position(|(number, expected)| number != expected);
        assert_eq!(at, None, "key {key}: {} of {}, see position {at:?}", of_key.len(), expected.len());
        assert_eq!(of_key.len(), expected.len(), "key {key}");
    }
    println!("{MESSAGES} messages transformed once and in order: {members}");
    Ok(())
}
