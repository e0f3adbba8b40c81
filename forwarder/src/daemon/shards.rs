//! `shards`: in how many shards a relay's topic is read, and another number.

use serde_json::json;
use watermill_core::error::{SubscribeErrorKind, chain};

use crate::{config::Config, exit::Exit, steer};

/// Says how many there are, or sets how many there are to be.
pub(crate) async fn run(config: &Config, relay: Option<&str>, count: Option<u32>, as_json: bool) -> Exit {
    let source = match steer::relay(config, relay) {
        Ok(relay) => &relay.source,
        Err(error) => {
            eprintln!("{error}");
            return Exit::Failed;
        }
    };
    let pool = source.url.connect();
    if let Err(error) = pool.ping().await {
        eprintln!("the source does not answer: {}", chain(&error));
        return Exit::Unreachable;
    }
    let (topic, group) = (&*source.topic, source.group());
    let asked = async {
        if let Some(count) = count {
            pool.set_shard_count(topic, group, count).await?;
        }
        pool.shard_count(topic, group).await
    };
    match asked.await {
        Ok(Some(shards)) if as_json => {
            println!("{}", json!({ "now": shards.now, "wanted": shards.wanted }));
            Exit::Done
        }
        Ok(Some(shards)) if shards.now == shards.wanted => {
            println!("{} shards", shards.now);
            Exit::Done
        }
        Ok(Some(shards)) => {
            println!("{} shards, which become {}", shards.now, shards.wanted);
            Exit::Done
        }
        Ok(None) => {
            eprintln!("the topic is not read in shards: set the option shards, and run the relay");
            Exit::Failed
        }
        Err(error) => {
            eprintln!("{}", chain(&error));
            // What was asked for cannot be, whoever answers.
            match error.kind() {
                SubscribeErrorKind::Config | SubscribeErrorKind::Topic => Exit::Failed,
                _ => Exit::Unreachable,
            }
        }
    }
}
