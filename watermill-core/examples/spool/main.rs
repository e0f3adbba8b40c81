//! A worked example of a backend on the kit, [`watermill_core::backend`]: topics are directories, messages are
//! files. docs/writing-a-backend.md walks through it; `conformance.rs` joins it to the suite.

mod spool;

use std::time::Duration;

use futures::StreamExt as _;
use watermill_core::{Message, Publisher, Subscriber, error::BoxError};

use crate::spool::{SpoolPublisher, SpoolSubscriber};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let root = std::env::temp_dir().join(format!("watermill-spool-{}", std::process::id()));
    let publisher = SpoolPublisher::new(&root);
    let subscriber = SpoolSubscriber::new(&root, Duration::from_secs(30));
    publisher.publish("greetings", vec![Message::new("hello"), Message::new("world")]).await?;

    let mut subscription = subscriber.subscribe("greetings").await?;
    for _ in 0..2 {
        if let Some(delivery) = subscription.next().await {
            let delivery = delivery?;
            println!("{}", String::from_utf8_lossy(delivery.payload()));
            delivery.ack();
        }
    }
    subscription.close().await?;
    publisher.close().await?;
    std::fs::remove_dir_all(root)?;
    Ok(())
}
