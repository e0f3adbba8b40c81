//! The outbox into Kafka with relays that are killed and paused, each a process of its own: for readers of
//! what is committed nothing is missing, nothing is there twice, and the order of each key is kept.
//!
//! Without the test harness, because the relays are this program too.

#[path = "../processes/mod.rs"]
mod processes;
mod relays;
mod shop;

use std::{error::Error, path::PathBuf};

use processes::{Processes, assert_once_and_in_order};
use relays::{relay, start};
use shop::Shop;

const MESSAGES: usize = 20_000;
const KEYS: usize = 10;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Result {
    match std::env::var_os(relays::DATABASE) {
        Some(database) => relay(PathBuf::from(database)).await,
        None => kill_and_pause().await,
    }
}

async fn kill_and_pause() -> Result {
    let shop = Shop::open().await?;
    shop.publish(0..MESSAGES, KEYS).await?;
    let mut relays = Processes::default();
    for round in 0..4 {
        start(&mut relays, &shop)?;
        shop.records.wait_for_more(300 + 170 * round, MESSAGES).await?;
        relays.kill_all()?;

        start(&mut relays, &shop)?;
        shop.records.wait_for_more(400 + 130 * round, MESSAGES).await?;
        // Not while it has the database locked: nobody could go on.
        relays.pause(usize::MAX, || shop.is_writable()).await?;
        // The successor waits for the lease and fences whoever sleeps.
        start(&mut relays, &shop)?;
        shop.records.wait_for_more(1_000, MESSAGES).await?;
        relays.wake_all()?;
        shop.records.wait_for_more(500, MESSAGES).await?;
    }
    start(&mut relays, &shop)?;
    shop.records.wait_for_all(MESSAGES).await?;
    relays.kill_all()?;
    // What a killed one has left open is ended by the next.
    start(&mut relays, &shop)?;
    let published = shop.records.committed(MESSAGES).await?;

    assert_once_and_in_order(&published, MESSAGES, KEYS);
    println!("{MESSAGES} messages once and in order: {relays}");
    Ok(())
}
