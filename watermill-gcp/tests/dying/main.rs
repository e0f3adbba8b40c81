//! A consumer that dies with its process, with messages in hand: they come again, to another.
//!
//! Without the test harness, because the consumer is this program too.

use std::{
    collections::BTreeSet,
    env,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use futures::StreamExt;
use watermill_core::{Delivery, Message, Publisher as _, Subscriber as _, Subscription, Window};
use watermill_gcp::{
    NewSubscription, PubSubAccess, PubSubPublisher, PubSubPublisherConfig, PubSubSubscriber,
    PubSubSubscriberConfig,
};
use watermill_testkit::{Service, unique};

/// The project, in the process that is to die.
const PROJECT: &str = "WATERMILL_TEST_PUBSUB_PROJECT";

/// With and without an ordering key, so that one is behind another.
const IN_HAND: usize = 3;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Result {
    match env::var(PROJECT) {
        Ok(project) => hold(&project).await,
        Err(_) => kill_one_who_holds().await,
    }
}

async fn kill_one_who_holds() -> Result {
    let project = unique("project");
    let subscriber = subscriber(&project).await?;
    subscriber.initialize("orders").await?;
    let config = PubSubPublisherConfig::new(access(&project)).create_topics(true);
    let messages = [Message::with_id("0", "x").with_key("key"), Message::with_id("1", "x").with_key("key")];
    let messages = messages.into_iter().chain([Message::with_id("2", "x")]).collect();
    PubSubPublisher::new(config).await?.publish("orders", messages).await?;

    let mut command = Command::new(env::current_exe()?);
    let mut child = command.env(PROJECT, &project).stdout(Stdio::piped()).spawn()?;
    let said = BufReader::new(child.stdout.take().ok_or("no output")?).lines().next();
    child.kill()?;
    child.wait()?;
    let held: BTreeSet<String> = said.ok_or("it has ended")??.split(' ').map(str::to_owned).collect();
    assert!(!held.is_empty());

    let mut subscription = subscriber.subscribe("orders").await?;
    let mut came = Vec::new();
    while came.iter().collect::<BTreeSet<_>>().len() < IN_HAND {
        let delivery = next(&mut subscription).await?;
        came.push(delivery.id().to_string());
        delivery.ack_confirmed().await?;
    }
    let place = |id| came.iter().position(|came| came == id);
    assert!(place("0") < place("1"), "{came:?}");
    subscription.close().await?;
    println!("{} messages of a process that was killed have come again: {came:?}", held.len());
    Ok(())
}

/// Takes what there is, says so, and does not come back to it.
async fn hold(project: &str) -> Result {
    let mut subscription = subscriber(project).await?.subscribe("orders").await?;
    subscription.set_window(Window::ordered(IN_HAND.try_into()?));
    let mut held = Vec::new();
    while held.len() < IN_HAND {
        held.push(next(&mut subscription).await?);
    }
    println!("{}", held.iter().map(|delivery| delivery.id().as_str()).collect::<Vec<_>>().join(" "));
    std::future::pending().await
}

/// The emulator ends a stream with `UNKNOWN` now and then, which is said and mended.
async fn next(subscription: &mut Subscription) -> Result<Delivery> {
    loop {
        let next = tokio::time::timeout(Duration::from_secs(60), subscription.next()).await?;
        match next.ok_or("the stream goes on")? {
            Ok(delivery) => return Ok(delivery),
            Err(error) if error.is_retryable() => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// With leases as short as they can be: they are what a dead process leaves behind.
async fn subscriber(project: &str) -> Result<PubSubSubscriber> {
    let config = PubSubSubscriberConfig::new(access(project))
        .create_topics(true)
        .create_subscriptions(NewSubscription::new())
        .lease(Duration::from_secs(10));
    Ok(PubSubSubscriber::new(config).await?)
}

fn access(project: &str) -> PubSubAccess {
    PubSubAccess::new(project).emulator(Service::PUBSUB.url())
}
