//! The configuration: from layers of text to what relays are made of, with everything that is wrong told at once.

mod destination;
mod explain;
mod file;
mod layers;
mod options;
mod reader;
mod secret;
mod source;
mod table;
mod value;
#[cfg(feature = "http")]
mod webhook;

use std::{net::SocketAddr, time::Duration};

use watermill_core::Backoff;
use watermill_forwarder::{ForwarderConfig, KeyFrom, OnUnreadable};

pub(crate) use destination::Destination;
#[cfg(feature = "kafka")]
pub(crate) use destination::Kafka;
#[cfg(feature = "http")]
pub(crate) use destination::Webhook;
pub(crate) use explain::explain;
pub(crate) use layers::Layers;
use reader::Reader;
pub(crate) use source::{Layout, Source};

/// What the process does.
#[derive(Debug)]
pub(crate) struct Config {
    /// Where health, metrics and status are served.
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) drain_timeout: Duration,
    pub(crate) status_interval: Duration,
    pub(crate) log: Log,
    pub(crate) relays: Vec<Relay>,
}

/// How the log looks.
#[derive(Debug)]
pub(crate) struct Log {
    /// `auto`, `human` or `json`.
    pub(crate) format: String,
    pub(crate) level: String,
    pub(crate) repeat_interval: Duration,
}

/// A relay.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) name: String,
    pub(crate) delivery: Delivery,
    pub(crate) forwarder: ForwarderConfig,
    /// Whether dead letters go to the destination first.
    pub(crate) dead_letters_to_destination: bool,
    pub(crate) source: Source,
    pub(crate) destination: Destination,
}

/// What readers of the destination see after a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    AtLeastOnce,
    /// Once for readers of what is committed. The destination knows the relay by this name.
    Fenced(String),
}

impl Config {
    /// Makes it of the layers, or adds to their problems.
    pub(crate) fn of(layers: &mut Layers) -> Option<Self> {
        let mut top = Reader::new(layers, "");
        let log = Log {
            format: top.text("log.format").unwrap_or_default(),
            level: top.text("log.level").unwrap_or_default(),
            repeat_interval: top.duration("log.repeat_interval"),
        };
        if log.level.parse::<tracing_subscriber::filter::Targets>().is_err() {
            top.problem("log.level", "it is no level, and no directives such as \"info,sqlx=warn\"");
        }
        let (drain_timeout, status_interval) =
            (top.duration("drain_timeout"), top.duration("status_interval"));
        if status_interval.is_zero() {
            top.problem("status_interval", "zero would ask without a pause");
        }
        let admin = top.text("admin.listen").filter(|listen| listen != "off").and_then(|listen| {
            let address = listen.parse();
            if address.is_err() {
                top.problem(
                    "admin.listen",
                    format!("{listen:?} is no address: write it as 127.0.0.1:9464, or \"off\""),
                );
            }
            address.ok()
        });
        let relays = relays(layers, drain_timeout);
        layers.problems.is_empty().then_some(Self { admin, drain_timeout, status_interval, log, relays })
    }
}

fn relays(layers: &mut Layers, drain_timeout: Duration) -> Vec<Relay> {
    let names: Vec<String> = layers.relays.iter().cloned().collect();
    if names.is_empty() && layers.problems.is_empty() {
        layers.problem("relay", "there is none: name one, as in [relay.shop]");
    }
    let mut relays = Vec::new();
    for name in names {
        let legal =
            |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "_-".contains(letter);
        if !name.chars().all(legal) {
            layers.problem(&format!("relay.{name}"), "a relay's name is made of a-z, 0-9, _ and -");
        }
        let mut reader = Reader::new(layers, &format!("relay.{name}."));
        let forwarder = forwarder(&mut reader, drain_timeout);
        let destination = destination::read(&mut reader);
        let delivery = delivery(&mut reader, &name, destination.as_ref());
        let source = source::read(&mut reader, &forwarder);
        let dead_letters_to_destination = reader.text("dead_letters").as_deref() == Some("destination");
        if let (Some(source), Some(destination)) = (source, destination) {
            let relay = Relay { name, delivery, forwarder, dead_letters_to_destination, source, destination };
            relays.push(relay);
        }
    }
    relays
}

fn forwarder(reader: &mut Reader<'_>, drain_timeout: Duration) -> ForwarderConfig {
    let backoff = Backoff::exponential(reader.duration("backoff_min")).max(reader.duration("backoff_max"));
    let key_from = match (reader.text("key_from_metadata"), reader.text("key_from_json")) {
        (Some(name), None) => Some(KeyFrom::metadata(name)),
        (None, Some(pointer)) => Some(KeyFrom::json_pointer(pointer)),
        (None, None) => None,
        (Some(_), Some(_)) => {
            reader.problem("key_from_json", "key_from_metadata is set, too: a key comes from one of them");
            None
        }
    };
    let on_unreadable = match reader.text("on_unreadable").as_deref() {
        Some("ack") => OnUnreadable::Ack,
        Some("nack") => OnUnreadable::Nack,
        _ => OnUnreadable::DeadLetter,
    };
    let destination_from = table::destination_from(reader);
    let shards = reader.some_count("shards").map(|shards| u32::try_from(shards).unwrap_or(u32::MAX));
    let config = ForwarderConfig::default()
        .destination_from(destination_from)
        .shards(shards)
        .topic(reader.text("topic").unwrap_or_default())
        .batch_size(reader.count("batch_size"))
        .linger(reader.duration("linger"))
        .backoff(backoff)
        .call_timeout(reader.duration("call_timeout"))
        .attempts(reader.attempts("attempts"))
        .max_blocked(reader.count("max_blocked"))
        .dead_letter_topic(reader.text("dead_letter_topic").unwrap_or_default())
        .key_from(key_from)
        .on_unreadable(on_unreadable)
        // A daemon is started by a machine, in whatever order machines are.
        .await_source(true)
        .drain_timeout(drain_timeout);
    reader.check("", config.validate());
    config
}

fn delivery(reader: &mut Reader<'_>, relay: &str, destination: Option<&Destination>) -> Delivery {
    let name = reader.text("name_at_destination");
    if reader.text("delivery").as_deref() != Some("exactly-once") {
        if name.is_some() {
            reader.problem("name_at_destination", "it is for delivery = \"exactly-once\" alone");
        }
        return Delivery::AtLeastOnce;
    }
    if destination.is_some_and(|destination| !destination.can_fence()) {
        reader.problem(
            "delivery",
            "exactly-once is for Kafka and databases: this destination keeps no checkpoint",
        );
    }
    Delivery::Fenced(name.unwrap_or_else(|| format!("watermill-{relay}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(set: &[&str]) -> Result<Config, Vec<String>> {
        let set: Vec<String> = set.iter().map(|text| (*text).to_owned()).collect();
        let mut layers = Layers::read(None, [], &set);
        let config = Config::of(&mut layers);
        config.ok_or_else(|| layers.problems.iter().map(ToString::to_string).collect())
    }

    const SOURCE: &str = "relay.shop.source.url=sqlite:a.db";
    const DESTINATION: &str = "relay.shop.destination.url=sqlite:b.db";

    #[test]
    fn what_nobody_sets_is_as_in_the_library() {
        let config = config(&[SOURCE, DESTINATION]).unwrap();
        let expected = ForwarderConfig::default().await_source(true);
        assert_eq!(config.relays[0].forwarder, expected);
        assert_eq!(config.relays[0].delivery, Delivery::AtLeastOnce);
    }

    #[test]
    fn what_the_parts_say_is_wrong_is_told_with_the_option() {
        let set = [
            SOURCE,
            DESTINATION,
            "relay.shop.batch_size=0",
            "relay.shop.source.lease=1ms",
            "relay.shop.name_at_destination=shop",
            "relay.shop.destination.options.acks=1",
            "admin.listen=everywhere",
        ];
        let problems = config(&set).unwrap_err();
        for path in [
            "admin.listen",
            "relay.shop.batch_size",
            "relay.shop.name_at_destination",
            "relay.shop.source.lease",
            "relay.shop.destination.options.acks",
        ] {
            assert!(problems.iter().any(|problem| problem.contains(path)), "{path}: {problems:#?}");
        }
    }

    #[test]
    fn a_relay_needs_a_source_and_a_destination() {
        assert_eq!(config(&[]).unwrap_err(), ["relay: there is none: name one, as in [relay.shop]"]);
        let problems = config(&["relay.shop.topic=outbox"]).unwrap_err();
        assert_eq!(problems.len(), 2, "{problems:#?}");
    }
}
