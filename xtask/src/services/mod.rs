//! `cargo xtask services`: the servers that tests of backends run against.
//!
//! A server is used in this order: the one that the environment names, else a private instance of
//! what is installed, on a loopback port of its own with its data under `target/services`. What is up
//! stands in `target/services/services.json` (an object from name to URL), which the test kit reads.
//!
//! A new server is one file here with one [`Service`], and one line in [`SERVICES`].

mod embedded;
mod state;

use std::path::Path;

use crate::{Result, workspace};
use state::State;

pub(crate) const USAGE: &str = "\
Usage: cargo xtask services <up|down|status>

  up      start the servers that tests need and write target/services/services.json
  down    stop what `up` started; their data stays until `cargo clean`
  status  say what is up, what the environment names, and what is embedded
";

/// A server that tests need.
trait Service {
    /// Its key in `services.json`: `postgres`.
    fn name(&self) -> &'static str;

    /// The variable that names one to use instead: `WATERMILL_TEST_POSTGRES`.
    fn variable(&self) -> &'static str;

    /// Starts a private instance with its data in `dir` and returns its URL once it accepts
    /// connections.
    fn start(&self, dir: &Path) -> Result<String>;

    /// Whether the instance in `dir` runs.
    fn is_up(&self, dir: &Path) -> bool;

    /// Stops the instance in `dir`. One that has ended already is not an error.
    fn stop(&self, dir: &Path) -> Result;
}

/// Every server, in the order of their start.
///
/// Empty: the backends of this workspace are the in-memory one and SQLite, and both are compiled in.
const SERVICES: &[&dyn Service] = &[];

pub(crate) fn run(args: &[String]) -> Result {
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["up"] => up().map(|_| ()),
        ["down"] => down(),
        ["status"] => status(),
        _ => Err(format!("say up, down or status\n\n{USAGE}")),
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
    let started = start_all(SERVICES, &workspace::services_dir(), environment)?;
    if SERVICES.is_empty() {
        println!("services: nothing needs starting; every backend of this workspace is embedded");
        embedded::print()?;
    }
    Ok(started)
}

/// Stops what `up` started.
pub(crate) fn down() -> Result {
    stop_all(SERVICES, &workspace::services_dir())?;
    if SERVICES.is_empty() {
        println!("services: nothing to stop");
    }
    Ok(())
}

fn status() -> Result {
    let dir = workspace::services_dir();
    let state = State::load(&dir)?;
    for service in SERVICES {
        let name = service.name();
        let line = match (environment(service.variable()), state.url(name)) {
            (Some(url), _) => format!("{url} (from {})", service.variable()),
            (None, Some(url)) if service.is_up(&dir.join(name)) => format!("{url} (private instance)"),
            (None, Some(_)) => "has ended; `cargo xtask services up` starts it again".to_owned(),
            (None, None) => "down".to_owned(),
        };
        println!("{name}: {line}");
    }
    if SERVICES.is_empty() {
        println!("services: no servers are needed; every backend of this workspace is embedded");
    }
    embedded::print()
}

fn environment(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|url| !url.is_empty())
}

fn start_all(
    services: &[&dyn Service],
    dir: &Path,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Started> {
    let mut state = State::load(dir)?;
    let mut started = Started::Nothing;
    for service in services {
        let (name, own) = (service.name(), dir.join(service.name()));
        if let Some(url) = environment(service.variable()) {
            println!("{name}: {url} (from {})", service.variable());
            state.remove(name);
            continue;
        }
        if let Some(url) = state.url(name)
            && service.is_up(&own)
        {
            println!("{name}: {url} (already up)");
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
    for service in
        services.iter().rev().filter(|service| state.url(service.name()).is_some()).collect::<Vec<_>>()
    {
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

#[cfg(test)]
mod tests;
