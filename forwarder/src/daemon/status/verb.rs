//! `status`: asks the sources, and the process that runs the relays.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use futures::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use watermill_core::error::chain;

use super::{ProcessView, SourceView, show};
use crate::{
    config::{Config, Delivery, Relay},
    exit::Exit,
    http,
};

/// Everything that is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) process: ProcessAnswer,
    pub(crate) relays: Vec<RelayStatus>,
}

/// Whether the process answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProcessAnswer {
    pub(crate) address: Option<String>,
    /// Why there is no answer.
    pub(crate) error: Option<String>,
}

/// One relay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RelayStatus {
    pub(crate) relay: String,
    pub(crate) topic: String,
    pub(crate) source: String,
    pub(crate) destination: String,
    pub(crate) delivery: String,
    /// What the source holds.
    pub(crate) holds: Option<SourceView>,
    /// Why the source does not say.
    pub(crate) error: Option<String>,
    /// What the process says.
    pub(crate) process: Option<ProcessView>,
}

/// What a process answers.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) relays: BTreeMap<String, ProcessView>,
}

/// How long an end may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Prints it, once or until it is interrupted.
pub(crate) async fn run(config: &Config, json: bool, watch: Option<Duration>) -> Exit {
    loop {
        let status = ask(config).await;
        let text = match json {
            true => serde_json::to_string(&status).unwrap_or_default() + "\n",
            false => show::table(&status),
        };
        let Some(interval) = watch else {
            print!("{text}");
            return exit(&status);
        };
        match json {
            true => print!("{text}"),
            false => print!("{}{text}", show::clear()),
        }
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => return Exit::Done,
            () = tokio::time::sleep(interval) => {}
        }
    }
}

fn exit(status: &Status) -> Exit {
    match status.relays.iter().all(|relay| relay.error.is_none()) {
        true => Exit::Done,
        false => Exit::Unreachable,
    }
}

async fn ask(config: &Config) -> Status {
    let (answer, sources) =
        tokio::join!(ask_process(config.admin), join_all(config.relays.iter().map(ask_source)));
    let (mut views, error) = match answer {
        Ok(answer) => (answer.relays, None),
        Err(error) => (BTreeMap::new(), Some(error)),
    };
    let relays = config.relays.iter().zip(sources).map(|(relay, source)| {
        let (holds, error) = match source {
            Ok(view) => (Some(view), None),
            Err(error) => (None, Some(error)),
        };
        RelayStatus {
            relay: relay.name.clone(),
            topic: relay.source.topic.clone(),
            source: relay.source.url.shown(),
            destination: relay.destination.shown(),
            delivery: match relay.delivery {
                Delivery::AtLeastOnce => "at-least-once".to_owned(),
                Delivery::Fenced(_) => "exactly-once".to_owned(),
            },
            holds,
            error,
            process: views.remove(&relay.name),
        }
    });
    let relays = relays.collect();
    Status {
        process: ProcessAnswer { address: config.admin.map(|address| address.to_string()), error },
        relays,
    }
}

async fn ask_process(admin: Option<SocketAddr>) -> Result<Answer, String> {
    let Some(address) = admin else { return Err("admin.listen is off".to_owned()) };
    let answer = http::get(address, "/status").await?;
    serde_json::from_str(&answer).map_err(|error| format!("its answer is not understood: {error}"))
}

async fn ask_source(relay: &Relay) -> Result<SourceView, String> {
    let pool = relay.source.url.clone().acquire_timeout(PATIENCE).connect();
    // The pool would only say that it has waited in vain.
    let asked = async {
        pool.ping().await.map_err(|error| chain(&error))?;
        SourceView::ask(&pool, &relay.source).await
    };
    let view = timeout(PATIENCE, asked).await;
    view.unwrap_or_else(|_| Err("it does not answer in time".to_owned()))
}
