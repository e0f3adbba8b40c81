//! `check`: what is wrong with the configuration, and with `--connect` with the two ends of each relay.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;
use watermill_core::error::chain;

use crate::{
    config::{Config, Destination, Layers, Relay, explain},
    exit::Exit,
};

/// How long an end may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// What to look at.
pub(crate) struct Check<'a> {
    pub(crate) explain: bool,
    pub(crate) connect: bool,
    pub(crate) json: bool,
    /// Topics that are to be at the destination.
    pub(crate) topics: &'a [String],
}

/// Something that is wrong with an end.
struct Fault {
    relay: String,
    end: &'static str,
    text: String,
}

/// Looks, and says what it has found.
pub(crate) async fn run(layers: &mut Layers, check: Check<'_>) -> Exit {
    let config = Config::of(layers);
    if check.explain && !check.json {
        println!("{}", explain(layers));
    }
    let Some(config) = config else {
        report_problems(layers, check.json);
        return Exit::Config;
    };
    let faults = match check.connect {
        true => connect(&config, check.topics).await,
        false => Vec::new(),
    };
    if check.json {
        let faults: Vec<_> = faults.iter().map(Fault::json).collect();
        println!("{}", json!({ "problems": [], "faults": faults }));
    } else {
        faults.iter().for_each(|fault| eprintln!("{}: {}: {}", fault.relay, fault.end, fault.text));
    }
    if !faults.is_empty() {
        return Exit::Unreachable;
    }
    if !check.json {
        let ends = if check.connect { ", and both ends of each answer" } else { "" };
        println!("the configuration can work: {} relays{ends}", config.relays.len());
    }
    Exit::Done
}

/// Says everything that is wrong with the configuration.
pub(crate) fn report_problems(layers: &Layers, json: bool) {
    if json {
        let problems =
            layers.problems.iter().map(|problem| json!({ "at": problem.at, "text": problem.text }));
        println!("{}", json!({ "problems": problems.collect::<Vec<_>>(), "faults": [] }));
    } else {
        layers.problems.iter().for_each(|problem| eprintln!("{problem}"));
    }
}

async fn connect(config: &Config, topics: &[String]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for relay in &config.relays {
        let fault = |end, text| Fault { relay: relay.name.clone(), end, text };
        let late = |_| vec!["it does not answer in time".to_owned()];
        let source = timeout(PATIENCE, source(relay)).await.unwrap_or_else(late);
        faults.extend(source.into_iter().map(|text| fault("source", text)));
        let destination = timeout(PATIENCE, destination(&relay.destination, topics)).await;
        faults.extend(destination.unwrap_or_else(late).into_iter().map(|text| fault("destination", text)));
    }
    faults
}

async fn source(relay: &Relay) -> Vec<String> {
    let source = &relay.source;
    let pool = source.url.clone().acquire_timeout(PATIENCE / 2).connect();
    if let Err(error) = pool.ping().await {
        return vec![chain(&error)];
    }
    pool.missing(&source.needs()).await.unwrap_or_else(|error| vec![chain(&error)])
}

#[cfg_attr(not(feature = "kafka"), expect(unused_variables, reason = "Kafka alone is asked for topics"))]
async fn destination(destination: &Destination, topics: &[String]) -> Vec<String> {
    match destination {
        Destination::Sql { url, .. } => {
            let pool = url.clone().acquire_timeout(PATIENCE / 2).connect();
            match pool.ping().await {
                Ok(()) => Vec::new(),
                Err(error) => vec![chain(&error)],
            }
        }
        #[cfg(feature = "kafka")]
        Destination::Kafka(kafka) => self::kafka(kafka, topics).await,
        #[cfg(feature = "pubsub")]
        Destination::PubSub(_) => match crate::ends::publisher(destination).await {
            Ok(_) => Vec::new(),
            Err(error) => vec![chain(&error)],
        },
        #[cfg(feature = "redis")]
        Destination::Redis(client) => redis(client).await,
        #[cfg(feature = "nats")]
        Destination::Nats(nats) => match nats.options().connect(nats.address()).await {
            Ok(_) => Vec::new(),
            Err(error) => vec![chain(&error)],
        },
        #[cfg(feature = "amqp")]
        Destination::Amqp(config) => rabbitmq(config).await,
        #[cfg(feature = "http")]
        Destination::Http(webhook) => http(webhook).await,
    }
}

#[cfg(feature = "kafka")]
async fn kafka(kafka: &crate::config::Kafka, topics: &[String]) -> Vec<String> {
    use watermill_core::error::SubscribeErrorKind;
    use watermill_kafka::KafkaStatus;

    let status = match KafkaStatus::new(kafka.status.clone()) {
        Ok(status) => status,
        Err(error) => return vec![chain(&error)],
    };
    // A topic that is not there is an answer, too.
    let asked = status.group("watermill-forwarder", &kafka.checkpoint_topic).await;
    let mut faults: Vec<String> = match asked {
        Err(error) if error.kind() != SubscribeErrorKind::Topic => vec![chain(&error)],
        _ => Vec::new(),
    };
    for topic in topics {
        if let Err(error) = status.group("watermill-forwarder", topic).await {
            faults.push(format!("topic {topic}: {}", chain(&error)));
        }
    }
    faults
}

#[cfg(feature = "redis")]
async fn redis(client: &redis::Client) -> Vec<String> {
    let pinged = async {
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd("PING").exec_async(&mut connection).await
    };
    pinged.await.err().map(|error: redis::RedisError| error.to_string()).into_iter().collect()
}

/// Whether one may log in. What there is of exchanges is found out by publishing.
#[cfg(feature = "amqp")]
async fn rabbitmq(config: &watermill_amqp::AmqpPublisherConfig) -> Vec<String> {
    use watermill_core::Publisher as _;

    let publisher = match watermill_amqp::AmqpPublisher::new(config.clone()) {
        Ok(publisher) => publisher,
        Err(error) => return vec![chain(&error)],
    };
    let connected = publisher.connect().await;
    let _ = publisher.close().await;
    connected.err().map(|error| chain(&error)).into_iter().collect()
}

/// Whether somebody listens: nothing is posted that is no message.
#[cfg(feature = "http")]
async fn http(webhook: &crate::config::Webhook) -> Vec<String> {
    let has_port = webhook.host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let port = if webhook.scheme == "https" { 443 } else { 80 };
    let address = if has_port { webhook.host.clone() } else { format!("{}:{port}", webhook.host) };
    let connected = tokio::net::TcpStream::connect(&address).await;
    connected.err().map(|error| format!("connect to {address}: {error}")).into_iter().collect()
}

impl Fault {
    fn json(&self) -> serde_json::Value {
        json!({ "relay": self.relay, "end": self.end, "text": self.text })
    }
}
