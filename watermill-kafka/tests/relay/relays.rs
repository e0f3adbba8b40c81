//! What a relay process does, and how one is started.

use std::{env, path::PathBuf, process::exit};

use watermill_forwarder::{FencedForwarder, ForwarderConfig, ForwarderErrorKind};
use watermill_kafka::{KafkaFencedPublisher, KafkaPublisherConfig};
use watermill_testkit::Service;

use crate::{
    Result,
    processes::{FENCED, Processes},
    shop::{self, Shop},
};

/// Says that this process is a relay, and from which database.
pub(crate) const DATABASE: &str = "WATERMILL_RELAY_DATABASE";
const NAME: &str = "WATERMILL_RELAY_NAME";

/// What a relay process does, until it is killed or fenced.
pub(crate) async fn relay(database: PathBuf) -> Result {
    let source = shop::outbox(shop::connect(&database).await?)?;
    let destination = KafkaFencedPublisher::new(KafkaPublisherConfig::new(Service::KAFKA.url()))?;
    let config = ForwarderConfig::default().batch_size(200);
    let relay = FencedForwarder::builder(source, destination, env::var(NAME)?).config(config).build()?;
    match relay.run_until(std::future::pending()).await {
        Err(error) if error.kind() == ForwarderErrorKind::Fenced => exit(FENCED),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(()),
    }
}

/// Starts a relay for the outbox of a shop.
pub(crate) fn start(relays: &mut Processes, shop: &Shop) -> Result {
    let database = shop.database();
    let database = database.to_str().ok_or("the temporary folder has a name that is no text")?;
    relays.start(&[(DATABASE, database), (NAME, &shop.records.topic)])
}
