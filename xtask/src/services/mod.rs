//! `cargo xtask services`: the servers that tests of backends run against.
//!
//! A server is used in this order: the one that the environment names, else a private instance of
//! what is installed, on a loopback port of its own with its data under `target/services`. What is up
//! stands in `target/services/services.json` (an object from name to URL), which the test kit reads.
//!
//! A new server is one file here with one [`Service`], and one line in [`SERVICES`].

pub(crate) mod browser;
mod clock;
mod daemon;
mod embedded;
mod kafka;
pub(crate) mod maven;
mod mysql;
mod nats;
mod packages;
mod pgbouncer;
mod postgres;
mod private;
pub(crate) mod prometheus;
mod pubsub;
mod rabbitmq;
mod redis;
mod state;

use std::{fs, io::ErrorKind, path::Path};

use crate::{Result, workspace};
use pgbouncer::PgBouncer;
use state::State;

pub(crate) const USAGE: &str = "\
Usage: cargo xtask services <up|down|status> [name...]
       cargo xtask services private <up|durable|replicated|freeze|thaw|alarm|calm|kill|down> <name> <folder>
       cargo xtask services private follow <name> <folder> <folder of the primary>
       cargo xtask services private turn <name> <folder> <seconds>

  up      start the servers that tests need, or those named, and write target/services/services.json
  down    stop what `up` started; their data stays until `cargo clean`
  status  say what is up, what the environment names, and what is embedded
  private start a server for one test in a folder of its own, below target/services/private, and print
          its URL; `durable` flushes every commit to the disk, and `replicated` can be followed, too; start a
          standby of one; stop its process
          where it stands and have it go on; have it run out of memory, as far as it knows, and end that; kill it abruptly; stop it and remove its folder; turn its clock,
          which is its own if that was done before its first start (of databases, with libfaketime)

A server that is not installed is installed from the system's packages, with apt-get.
";

/// A server that tests need.
trait Service {
    /// Its key in `services.json`: `postgres`.
    fn name(&self) -> &'static str;

    /// The variable that names one to use instead: `WATERMILL_TEST_POSTGRES_URL`.
    fn variable(&self) -> &'static str;

    /// Starts a private instance with its data in `dir` and returns its URL once it accepts
    /// connections.
    fn start(&self, dir: &Path) -> Result<String>;

    /// The same, with a server that survives a power cut: for benchmarks that claim durability.
    fn start_durable(&self, _dir: &Path) -> Result<String> {
        Err(format!("{} is not started as a durable server here", self.name()))
    }

    /// The same, with a server that can be followed.
    fn start_replicated(&self, dir: &Path) -> Result<String> {
        self.start_durable(dir)
    }

    /// Starts an instance in `dir` that is a standby of the one in `primary`, with a copy of its data, and
    /// returns its URL once it can be read from.
    fn follow(&self, _dir: &Path, _primary: &Path) -> Result<String> {
        Err(format!("{} is not started as a standby here", self.name()))
    }

    /// Whether the instance in `dir` runs.
    fn is_up(&self, dir: &Path) -> bool;

    /// Why it cannot be had on this machine, if its tests are left out for that.
    fn missing(&self) -> Option<String> {
        None
    }

    /// What runs in `dir` instead of the server, or that nothing does, if that could not be had.
    fn stand_in(&self, _dir: &Path) -> Option<StandIn> {
        None
    }

    /// Stops the instance in `dir`. One that has ended already is not an error.
    fn stop(&self, dir: &Path) -> Result;

    /// Ends the instance in `dir` as a crash does. Its data stay.
    fn kill(&self, dir: &Path) -> Result;

    /// Has the instance in `dir` stand still: it keeps its connections and answers nobody.
    fn freeze(&self, _dir: &Path) -> Result {
        Err(format!("{} is not frozen here", self.name()))
    }

    /// Has a frozen instance go on.
    fn thaw(&self, _dir: &Path) -> Result {
        Err(format!("{} is not frozen here", self.name()))
    }

    /// Has the instance in `dir` believe that it has run out of memory.
    fn alarm(&self, _dir: &Path) -> Result {
        Err(format!("{} is not alarmed here", self.name()))
    }

    /// Ends that.
    fn calm(&self, _dir: &Path) -> Result {
        Err(format!("{} is not alarmed here", self.name()))
    }

    /// Turns the clock of the instance in `dir` so many seconds away from the time. It has one of its own from its
    /// next start on.
    fn turn(&self, _dir: &Path, _seconds: &str) -> Result {
        Err(format!("{} has no clock of its own here", self.name()))
    }

    /// Removes the data of an instance that has ended.
    fn remove(&self, dir: &Path) -> Result;
}

/// Something that serves in a server's place, or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StandIn {
    /// What it is, and why it is used.
    pub(crate) what: String,
    /// The features whose tests it cannot pass: crates and features.
    pub(crate) lacks: &'static [(&'static str, &'static str)],
}

/// Every server, in the order of their start.
const SERVICES: &[&dyn Service] = &[
    &postgres::Postgres,
    &PgBouncer {
        name: "pgbouncer",
        variable: "WATERMILL_TEST_PGBOUNCER_URL",
        mode: "transaction",
        prepared: 0,
    },
    &PgBouncer {
        name: "pgbouncer-session",
        variable: "WATERMILL_TEST_PGBOUNCER_SESSION_URL",
        mode: "session",
        prepared: 0,
    },
    &PgBouncer {
        name: "pgbouncer-prepared",
        variable: "WATERMILL_TEST_PGBOUNCER_PREPARED_URL",
        mode: "transaction",
        prepared: 200,
    },
    &mysql::MySql,
    &kafka::Kafka,
    &pubsub::PubSub,
    &redis::Redis,
    &rabbitmq::RabbitMq,
    &nats::Nats,
];

pub(crate) fn run(args: &[String]) -> Result {
    let unclear = || format!("say up, down or status\n\n{USAGE}");
    let (verb, names) = args.split_first().ok_or_else(unclear)?;
    if verb == "private" {
        return private::run(SERVICES, names);
    }
    let services = chosen(SERVICES, names)?;
    match verb.as_str() {
        "up" => start(&services).map(|_| ()),
        "down" => stop(&services),
        "status" => status(&services),
        _ => Err(unclear()),
    }
}

/// What [`up`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Started {
    /// At least one server that was not running before.
    Some,
    /// Nothing: it was all there, or nothing is needed.
    Nothing,
}

/// Starts what is not up yet and writes the state file.
pub(crate) fn up() -> Result<Started> {
    start(SERVICES)
}

/// What serves in the place of servers that could not be had.
pub(crate) fn stand_ins() -> Result<Vec<StandIn>> {
    let dir = workspace::services_dir();
    let mut stand_ins = Vec::new();
    for service in SERVICES {
        if environment(service.variable())?.is_none() {
            stand_ins.extend(service.stand_in(&dir.join(service.name())));
        }
    }
    Ok(stand_ins)
}

/// Stops what [`up`] started.
pub(crate) fn down() -> Result {
    stop(SERVICES)
}

/// The services of these names; all of them without names.
fn chosen<'s>(services: &[&'s dyn Service], names: &[String]) -> Result<Vec<&'s dyn Service>> {
    if let Some(name) = names.iter().find(|name| services.iter().all(|service| service.name() != **name)) {
        let known: Vec<&str> = services.iter().map(|service| service.name()).collect();
        return Err(format!("there is no service `{name}`; there are {}", known.join(", ")));
    }
    let wanted =
        |service: &&&dyn Service| names.is_empty() || names.iter().any(|name| name == service.name());
    Ok(services.iter().filter(wanted).copied().collect())
}

fn start(services: &[&dyn Service]) -> Result<Started> {
    start_all(services, &workspace::services_dir(), environment)
}

fn stop(services: &[&dyn Service]) -> Result {
    let dir = workspace::services_dir();
    // What a test has left that was killed.
    private::stop_all(services, &dir)?;
    stop_all(services, &dir)
}

fn status(services: &[&dyn Service]) -> Result {
    let dir = workspace::services_dir();
    let state = State::load(&dir)?;
    for service in services {
        let name = service.name();
        let line = match (environment(service.variable())?, state.url(name)) {
            (Some(url), _) => format!("{url} (from {})", service.variable()),
            (None, Some(url)) if service.is_up(&dir.join(name)) => format!("{url} (private instance)"),
            (None, Some(_)) => "has ended; `cargo xtask services up` starts it again".to_owned(),
            (None, None) => "down".to_owned(),
        };
        println!("{name}: {line}");
    }
    embedded::print()
}

/// What a variable says. Half a configuration is a mistake, and the test kit sees it so too.
fn environment(variable: &str) -> Result<Option<String>> {
    match std::env::var(variable) {
        Ok(url) if url.trim().is_empty() => Err(format!("{variable} is set and empty; set it or unset it")),
        Ok(url) => Ok(Some(url)),
        Err(_) => Ok(None),
    }
}

fn start_all(
    services: &[&dyn Service],
    dir: &Path,
    environment: impl Fn(&str) -> Result<Option<String>>,
) -> Result<Started> {
    let mut state = State::load(dir)?;
    let mut started = Started::Nothing;
    for service in services {
        let (name, own) = (service.name(), dir.join(service.name()));
        if let Some(url) = environment(service.variable())? {
            println!("{name}: {url} (from {})", service.variable());
            continue;
        }
        if let Some(url) = state.url(name)
            && service.is_up(&own)
        {
            println!("{name}: {url} (already up)");
            continue;
        }
        // A build server is to say that it has not tested everything.
        if let Some(why) = service.missing().filter(|_| matches!(environment("CI"), Ok(None))) {
            println!("{name}: {why}");
            continue;
        }
        let url = service.start(&own).map_err(|error| format!("failed to start {name}: {error}"))?;
        println!("{name}: {url} (started)");
        state.insert(name, &url);
        // Written after every start, so that `down` finds this one even if the next one fails.
        state.save(dir)?;
        started = Started::Some;
    }
    state.save(dir)?;
    Ok(started)
}

fn stop_all(services: &[&dyn Service], dir: &Path) -> Result {
    let mut state = State::load(dir)?;
    let mut failures = Vec::new();
    // Every one is tried: a server that does not stop must not keep the others running.
    for service in services.iter().rev() {
        if state.url(service.name()).is_none() {
            continue;
        }
        match service.stop(&dir.join(service.name())) {
            Ok(()) => {
                println!("{}: stopped", service.name());
                state.remove(service.name());
            }
            Err(error) => failures.push(format!("failed to stop {}: {error}", service.name())),
        }
    }
    state.save(dir)?;
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

fn remove_dirs(dirs: &[&Path]) -> Result {
    for dir in dirs {
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(format!("failed to remove {}: {error}", dir.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
