//! Consume, transform, produce, by a group whose members are killed and paused, each a process of its own: for
//! readers of what is committed every message has its output, once, and the outputs of each key are in order.
//!
//! Without the test harness, because the members are this program too.

#[path = "../processes/mod.rs"]
mod processes;
mod worker;

use std::error::Error;

use processes::{Processes, Records, assert_once_and_in_order, records::make_topic};
use watermill_core::{Message, Publisher as _};
use watermill_kafka::{KafkaPublisher, KafkaPublisherConfig};
use watermill_testkit::{Service, unique};

const MESSAGES: usize = 36_000;
const KEYS: usize = 24;
const PARTITIONS: i32 = 6;
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
    let input = unique("parts");
    let outputs = Records::of(worker::output(&input)).await?;
    put(&input).await?;
    let mut members = Processes::default();
    let mut started = 0;
    let mut start = |members: &mut Processes| {
        started += 1;
        // An id that is used again fences whoever has it still.
        worker::start(members, &input, started % IDS)
    };
    start(&mut members)?;
    for round in 0..3 {
        start(&mut members)?;
        outputs.wait_for_more(900 + 170 * round, MESSAGES).await?;
        members.kill(1)?;

        start(&mut members)?;
        outputs.wait_for_more(1_000 + 130 * round, MESSAGES).await?;
        members.pause(1, async || Ok(true)).await?;
        // The others take its partitions over once its session has ended, and its transaction.
        start(&mut members)?;
        outputs.wait_for_more(2_000, MESSAGES).await?;
        members.wake_all()?;
        outputs.wait_for_more(900, MESSAGES).await?;
        members.kill(1)?;
    }
    start(&mut members)?;
    outputs.wait_for_all(MESSAGES).await?;
    members.kill_all()?;
    // What a killed one has left open is ended by the next of its id, and done again.
    for id in 0..IDS {
        worker::start(&mut members, &input, id)?;
    }
    assert_once_and_in_order(&outputs.committed(MESSAGES).await?, MESSAGES, KEYS);
    println!("{MESSAGES} messages transformed once and in order: {members}");
    Ok(())
}

/// Numbered messages, over all keys.
async fn put(input: &str) -> Result {
    make_topic(input, PARTITIONS).await?;
    let publisher = KafkaPublisher::new(KafkaPublisherConfig::new(Service::KAFKA.url()))?;
    let message = |number: usize| Message::new(number.to_string()).with_key((number % KEYS).to_string());
    Ok(publisher.publish(input, (0..MESSAGES).map(message).collect()).await?)
}
