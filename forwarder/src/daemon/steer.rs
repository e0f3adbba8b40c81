//! `pause` and `resume`: told to the process that runs.

use serde_json::json;

use crate::{config::Config, exit::Exit, http};

/// Pauses or resumes a destination, or a key of it.
pub(crate) async fn run(
    config: &Config,
    path: &str,
    relay: Option<&str>,
    destination: &str,
    key: Option<&str>,
) -> Exit {
    let relay = match (relay, &*config.relays) {
        (Some(relay), _) => relay,
        (None, [only]) => &only.name,
        (None, relays) => {
            let names: Vec<&str> = relays.iter().map(|relay| &*relay.name).collect();
            eprintln!("there are several relays: say which with --relay, one of {}", names.join(", "));
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
