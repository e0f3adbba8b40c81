//! `pause` and `resume`: told to the process that runs.

use serde_json::json;

use crate::{
    config::{Config, Relay},
    exit::Exit,
    http,
};

/// Pauses or resumes a destination, or a key of it.
pub(crate) async fn run(
    config: &Config,
    path: &str,
    relay: Option<&str>,
    destination: &str,
    key: Option<&str>,
) -> Exit {
    let relay = match self::relay(config, relay) {
        Ok(relay) => &relay.name,
        Err(error) => {
            eprintln!("{error}");
            return Exit::Failed;
        }
    };
    let Some(address) = config.admin else {
        eprintln!("admin.listen is off: the process cannot be told anything");
        return Exit::Failed;
    };
    let part = json!({ "relay": relay, "destination": destination, "key": key }).to_string();
    match http::post(address, path, part).await {
        Ok(paused) => {
            println!("paused now: {paused}");
            Exit::Done
        }
        Err(error) => {
            eprintln!("the process at {address} has not done it: {error}");
            Exit::Unreachable
        }
    }
}

/// The relay that is meant: the one of a name, or the only one.
pub(crate) fn relay<'c>(config: &'c Config, name: Option<&str>) -> Result<&'c Relay, String> {
    let names = || config.relays.iter().map(|relay| &*relay.name).collect::<Vec<_>>().join(", ");
    match (name, &*config.relays) {
        (None, [only]) => Ok(only),
        (None, _) => Err(format!("there are several relays: say which with --relay, one of {}", names())),
        (Some(name), relays) => {
            let found = relays.iter().find(|relay| relay.name == name);
            found.ok_or_else(|| format!("there is no relay {name:?}, only {}", names()))
        }
    }
}
