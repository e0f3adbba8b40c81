//! `run`: the relays side by side, until a signal.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use watermill_core::error::chain;

use crate::{config::Config, exit::Exit, http::Server, logs::Lines, relay::Running};

/// What the end of the process may take beyond the drain: closing pools and clients.
const GRACE: Duration = Duration::from_secs(1);
/// How often the log says what has repeated.
const SWEEP: Duration = Duration::from_secs(5);

/// Runs them.
pub(crate) async fn run(config: Config, lines: Lines) -> Exit {
    let (admin, drain_timeout) = (config.admin, config.drain_timeout);
    let status_interval = config.status_interval;
    let relays = match Running::all(config) {
        Ok(relays) => Arc::new(relays),
        Err(error) => {
            tracing::error!(error = %chain(&error), "the configuration cannot work");
            return Exit::Config;
        }
    };
    let stop = CancellationToken::new();
    let Ok(signals) = Signals::listen() else {
        tracing::error!("signals cannot be listened to");
        return Exit::Failed;
    };
    if let Some(address) = admin {
        match Server::bind(address, Arc::clone(&relays)).await {
            Ok(server) => {
                let address = server.address().map(|address| address.to_string()).unwrap_or_default();
                tracing::info!(address, "health, metrics and status are served");
                tokio::spawn(server.run(CancellationToken::new()));
            }
            Err(error) => {
                tracing::error!(%address, %error, "the address of admin.listen cannot be served");
                return Exit::Failed;
            }
        }
    }
    tokio::spawn(sweep(lines.clone()));
    tokio::spawn(ask_sources(Arc::clone(&relays), status_interval));

    let mut running = tokio::spawn({
        let (relays, stop) = (Arc::clone(&relays), stop.clone());
        async move { join_all(relays.iter().map(|relay| relay_until(relay, &stop))).await }
    });
    let mut exit = tokio::select! {
        exit = signals.wait(&stop, drain_timeout) => exit,
        _ = &mut running => Exit::Failed,
    };
    if exit == Exit::Done {
        let ended = timeout(drain_timeout + GRACE, &mut running).await;
        if !matches!(ended, Ok(Ok(in_time)) if in_time.iter().all(|in_time| *in_time)) {
            tracing::error!(
                ?drain_timeout,
                "not everything was over in time; what is left stays in its source"
            );
            exit = Exit::Late;
        }
    }
    lines.sweep();
    exit
}

/// Returns whether it was through when it ended.
async fn relay_until(relay: &Running, stop: &CancellationToken) -> bool {
    let (source, destination) = (relay.config.source.url.shown(), relay.config.destination.shown());
    tracing::info!(
        relay = relay.name(),
        topic = relay.config.source.topic,
        source,
        destination,
        "the relay starts"
    );
    let report = relay.run(stop).await.unwrap_or_default();
    tracing::info!(
        relay = relay.name(),
        forwarded = report.forwarded,
        dead_lettered = report.dead_lettered,
        returned = report.returned,
        "the relay has ended",
    );
    !report.cut_short
}

/// What the process is told from outside.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the first signal, which begins the drain. The second one ends the process at once.
    async fn wait(mut self, stop: &CancellationToken, drain_timeout: Duration) -> Exit {
        let name = self.next().await;
        tracing::info!(signal = name, ?drain_timeout, "stopping: what is in hand is published first");
        stop.cancel();
        tokio::spawn(async move {
            let name = self.next().await;
            tracing::warn!(signal = name, "a second signal: what is in hand stays in its source");
            std::process::exit(i32::from(Exit::Late as u8));
        });
        Exit::Done
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

async fn sweep(lines: Lines) {
    let mut ticks = interval(SWEEP);
    loop {
        ticks.tick().await;
        lines.sweep();
    }
}

async fn ask_sources(relays: Arc<Vec<Arc<Running>>>, every: Duration) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        join_all(relays.iter().map(|relay| relay.ask_source())).await;
    }
}
