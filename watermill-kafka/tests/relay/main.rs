//! The outbox into Kafka with relays that are killed and paused, each a process of its own: for readers of
//! what is committed nothing is missing, nothing is there twice, and the order of each key is kept.
//!
//! Without the test harness, because the relays are this program too.

#[path = "../processes/mod.rs"]
mod processes;
mod relays;
mod shop;

use std::{collections::BTreeMap, error::Error, path::PathBuf};

use processes::Processes;
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
        shop.wait_for_more(300 + 170 * round).await?;
        relays.kill_all()?;

        start(&mut relays, &shop)?;
        shop.wait_for_more(400 + 130 * round).await?;
        // Not while it has the database locked: nobody could go on.
        relays.pause(usize::MAX, || shop.is_writable()).await?;
        // The successor waits for the lease and fences whoever sleeps.
        start(&mut relays, &shop)?;
        shop.wait_for_more(1_000).await?;
        relays.wake_all()?;
        shop.wait_for_more(500).await?;
    }
    start(&mut relays, &shop)?;
    shop.wait_for_all(MESSAGES).await?;
    relays.kill_all()?;
    // What a killed one has left open is ended by the next.
    start(&mut relays, &shop)?;
    let published = shop.published(MESSAGES).await?;

    let mut by_key: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for number in &published {
        by_key.entry(number % KEYS).or_default().push(*number);
    }
    for (key, numbers) in by_key {
        let expected: Vec<usize> = (key..MESSAGES).step_by(KEYS).collect();
        let at = numbers.iter().zip(&expected).position(|(number, expected)| number != expected);
        assert_eq!(at, None, "key {key}: {} of {}, see position {at:?}", numbers.len(), expected.len());
        assert_eq!(numbers.len(), expected.len(), "key {key}");
    }
    assert_eq!(published.len(), MESSAGES);
    println!("{MESSAGES} messages once and in order: {relays}");
    Ok(())
}
