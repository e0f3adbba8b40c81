//! The command line.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::Parser;
use watermill_core::go_duration;

/// Draws lottery winners in three ways, with faults, and shows which of them keep their promises.
#[derive(Debug, Parser)]
#[command(name = "lottery")]
pub(crate) struct Options {
    /// Where winners are stored: sqlite://PATH, and with the features of the same names
    /// postgres://USER@HOST/NAME or mysql://USER@HOST/NAME. Default: an SQLite file in a temporary folder.
    #[arg(long, value_name = "URL", default_value = "sqlite://", hide_default_value = true)]
    pub(crate) database: DatabaseUrl,

    /// Where events are published: memory, and with the features of the same names kafka://HOST:PORT,
    /// pubsub://PROJECT, amqp://USER@HOST/VHOST or http://HOST:PORT, where the prize service listens then.
    #[arg(long, value_name = "URL", default_value = "memory")]
    pub(crate) broker: BrokerUrl,

    /// How many draws there are.
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) draws: u32,

    /// How likely a crash is between the two steps of a draw, from 0 to 1.
    #[arg(long, value_name = "PROBABILITY", default_value_t = 0.25, value_parser = probability)]
    pub(crate) failure_rate: f64,

    /// What decides winners, strategies and faults: the same seed gives the same draws. Default: another
    /// one each time.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,

    /// The pause from one draw to the next: 5ms, 1s, 0ms.
    #[arg(long, value_name = "DURATION", default_value = "5ms", value_parser = go_duration::parse)]
    pub(crate) pace: Duration,
}

/// A database by its URL.
#[derive(Clone, Debug)]
pub(crate) enum DatabaseUrl {
    /// A file, or one in a temporary folder.
    Sqlite(Option<PathBuf>),
    /// A database on a server.
    #[cfg(feature = "postgres")]
    Postgres(Box<sqlx::postgres::PgConnectOptions>),
    /// A database on a server, of MariaDB too.
    #[cfg(feature = "mysql")]
    MySql(Box<sqlx::mysql::MySqlConnectOptions>),
}

/// The databases that this build has.
const DATABASES: &str = match (cfg!(feature = "postgres"), cfg!(feature = "mysql")) {
    (false, false) => "sqlite://PATH",
    (true, false) => "sqlite://PATH, postgres://USER@HOST/NAME",
    (false, true) => "sqlite://PATH, mysql://USER@HOST/NAME",
    (true, true) => "sqlite://PATH, postgres://USER@HOST/NAME, mysql://USER@HOST/NAME",
};

/// A broker by its URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BrokerUrl {
    /// The memory of this process.
    Memory,
    /// A cluster, by `host:port` of one or more of its brokers.
    #[cfg(feature = "kafka")]
    Kafka(String),
    /// Google Pub/Sub, by a project; on an emulator if `PUBSUB_EMULATOR_HOST` names one.
    #[cfg(feature = "pubsub")]
    PubSub(String),
    /// Streams of Redis, by the URL of the server.
    #[cfg(feature = "redis")]
    Redis(String),
    /// RabbitMQ, by its URL.
    #[cfg(feature = "amqp")]
    Amqp(String),
    /// NATS with JetStream, by the URL of a server.
    #[cfg(feature = "nats")]
    Nats(String),
    /// Webhooks, by the `host:port` where the prize service listens for them; port 0 is any that is free.
    #[cfg(feature = "http")]
    Http(String),
}

/// The brokers that this build has.
fn brokers() -> String {
    let all = [
        (true, "memory"),
        (cfg!(feature = "kafka"), "kafka://HOST:PORT"),
        (cfg!(feature = "pubsub"), "pubsub://PROJECT"),
        (cfg!(feature = "redis"), "redis://HOST:PORT"),
        (cfg!(feature = "amqp"), "amqp://USER@HOST/VHOST"),
        (cfg!(feature = "nats"), "nats://HOST:PORT"),
        (cfg!(feature = "http"), "http://HOST:PORT"),
    ];
    all.into_iter().filter(|(is_built, _)| *is_built).map(|(_, url)| url).collect::<Vec<_>>().join(", ")
}

impl FromStr for DatabaseUrl {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").unwrap_or((url, ""));
        match scheme {
            "sqlite" if rest.is_empty() => Ok(Self::Sqlite(None)),
            "sqlite" => Ok(Self::Sqlite(Some(rest.into()))),
            #[cfg(feature = "postgres")]
            "postgres" | "postgresql" => {
                url.parse().map(Box::new).map(Self::Postgres).map_err(|error| error.to_string())
            }
            #[cfg(feature = "mysql")]
            "mysql" | "mariadb" => {
                url.parse().map(Box::new).map(Self::MySql).map_err(|error| error.to_string())
            }
            _ => Err(unsupported(scheme, DATABASES) + missing_feature(scheme)),
        }
    }
}

impl FromStr for BrokerUrl {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").unwrap_or((url, ""));
        match scheme {
            "memory" if rest.is_empty() => Ok(Self::Memory),
            "memory" => Err("the memory of this process has no address: write `memory`".to_owned()),
            #[cfg(feature = "kafka")]
            "kafka" if rest.is_empty() => Err("name a broker: kafka://HOST:PORT".to_owned()),
            #[cfg(feature = "kafka")]
            "kafka" => Ok(Self::Kafka(rest.to_owned())),
            #[cfg(feature = "pubsub")]
            "pubsub" if rest.is_empty() => Err("name a project: pubsub://PROJECT".to_owned()),
            #[cfg(feature = "pubsub")]
            "pubsub" => Ok(Self::PubSub(rest.to_owned())),
            #[cfg(feature = "redis")]
            "redis" if rest.is_empty() => Err("name a server: redis://HOST:PORT".to_owned()),
            #[cfg(feature = "redis")]
            "redis" => Ok(Self::Redis(url.to_owned())),
            #[cfg(feature = "amqp")]
            "amqp" if rest.is_empty() => Err("name a server: amqp://USER@HOST/VHOST".to_owned()),
            #[cfg(feature = "amqp")]
            "amqp" => Ok(Self::Amqp(url.to_owned())),
            #[cfg(feature = "nats")]
            "nats" if rest.is_empty() => Err("name a server: nats://HOST:PORT".to_owned()),
            #[cfg(feature = "nats")]
            "nats" => Ok(Self::Nats(url.to_owned())),
            #[cfg(feature = "http")]
            "http" if rest.is_empty() => Err("name where to listen: http://127.0.0.1:0".to_owned()),
            #[cfg(feature = "http")]
            "http" => Ok(Self::Http(rest.trim_end_matches('/').to_owned())),
            _ => Err(unsupported(scheme, &brokers()) + missing_feature(scheme)),
        }
    }
}

/// What would support a database or a broker that this build has not.
fn missing_feature(scheme: &str) -> &'static str {
    match scheme {
        "postgres" | "postgresql" => "; build it with --features postgres",
        "mysql" | "mariadb" => "; build it with --features mysql",
        "kafka" => "; build it with --features kafka",
        "pubsub" => "; build it with --features pubsub",
        "redis" => "; build it with --features redis",
        "amqp" => "; build it with --features amqp",
        "nats" => "; build it with --features nats",
        "http" => "; build it with --features http",
        _ => "",
    }
}

fn unsupported(scheme: &str, supported: &str) -> String {
    format!("`{scheme}` is not supported by this build, which has: {supported}")
}

fn probability(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    (0.0..=1.0).contains(&number).then_some(number).ok_or_else(|| "not between 0 and 1".to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn databases_and_brokers_are_named_by_urls() {
        for (url, expected) in
            [("sqlite://", None), ("sqlite:///tmp/a.db", Some("/tmp/a.db")), ("sqlite://a.db", Some("a.db"))]
        {
            let parsed = url.parse();
            assert!(
                matches!(&parsed, Ok(DatabaseUrl::Sqlite(file)) if file.as_deref() == expected.map(Path::new)),
                "{url}: {parsed:?}"
            );
        }
        assert_eq!("memory".parse(), Ok(BrokerUrl::Memory));
        assert_eq!("memory://".parse(), Ok(BrokerUrl::Memory));
    }

    #[test]
    fn what_this_build_has_not_is_refused_with_what_it_has() {
        let broker = "pigeon://localhost".parse::<BrokerUrl>().unwrap_err();
        assert_eq!(broker, format!("`pigeon` is not supported by this build, which has: {}", brokers()));
        let database = "oracle://localhost/lottery".parse::<DatabaseUrl>().unwrap_err();
        assert_eq!(database, format!("`oracle` is not supported by this build, which has: {DATABASES}"));
    }

    #[test]
    fn a_probability_is_between_0_and_1() {
        assert_eq!(probability("0.5"), Ok(0.5));
        for wrong in ["1.5", "-0.1", "NaN", "often"] {
            assert!(probability(wrong).is_err(), "{wrong}");
        }
    }
}
