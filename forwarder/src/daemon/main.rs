//! The daemon `watermill-forwarder`: the relays of a configuration, and what an operator asks of them.

mod check;
mod cli;
mod config;
mod dead_letters;
mod ends;
mod exit;
mod http;
mod logs;
mod metrics;
mod relay;
mod run;
mod shards;
mod status;
mod steer;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Parser as _;

use crate::{
    check::{Check, report_problems},
    cli::{Cli, Common, Verb},
    config::{Config, Layers},
    exit::Exit,
};

/// How long the end may wait for what blocks a thread.
const LAST_WAIT: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("the runtime cannot be started: {error}");
            return Exit::Failed.into();
        }
    };
    let exit = runtime.block_on(run(cli));
    runtime.shutdown_timeout(LAST_WAIT);
    exit.into()
}

async fn run(cli: Cli) -> Exit {
    let mut layers = read(&cli.common);
    if let Verb::Check { explain, connect, topics, json } = &cli.verb {
        let check = Check { explain: *explain, connect: *connect, json: *json, topics };
        return check::run(&mut layers, check).await;
    }
    let Some(config) = Config::of(&mut layers) else {
        report_problems(&layers, false);
        return Exit::Config;
    };
    match cli.verb {
        Verb::Run => {
            let lines = logs::start(&config.log);
            run::run(config, lines).await
        }
        Verb::Check { .. } => Exit::Done,
        Verb::Status { json, watch, interval } => {
            status::run(&config, json, cli::watch(watch, interval)).await
        }
        Verb::Shards { count, relay, json } => shards::run(&config, relay.as_deref(), count, json).await,
        Verb::DeadLetters(verb) => dead_letters::run(&config, &verb).await,
        Verb::Pause(part) => {
            steer::run(&config, "/pause", part.relay.as_deref(), &part.destination, part.key.as_deref()).await
        }
        Verb::Resume(part) => {
            steer::run(&config, "/resume", part.relay.as_deref(), &part.destination, part.key.as_deref())
                .await
        }
    }
}

/// Reads the layers of the configuration.
fn read(common: &Common) -> Layers {
    let by_default = || Some(PathBuf::from("forwarder.toml")).filter(|path| path.exists());
    let by_variable = || std::env::var_os("WATERMILL_FORWARDER_CONFIG").map(PathBuf::from);
    let path = common.config.clone().or_else(by_variable).or_else(by_default);
    // What is no text is no option of ours.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Layers::read(path.as_deref().map(Path::new), environment, &common.set)
}
