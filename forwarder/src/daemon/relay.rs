//! [`Running`]: one relay of the process, which nothing ends but the stop of the process.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use watermill_core::{
    Backoff,
    error::{ConfigError, chain},
    router::Phase,
};
use watermill_forwarder::{ForwarderControl, ForwarderReport};

use crate::{
    config::{Config, Relay},
    ends::{AnyForwarder, DestinationEnd, SourceEnd, publisher},
    metrics::{Owners, RelayMetrics, Shown},
    status::{ProcessView, SourceView},
};

/// A relay, and what others may ask of it.
pub(crate) struct Running {
    pub(crate) config: Relay,
    source: SourceEnd,
    metrics: Arc<RelayMetrics>,
    /// There once the destination could be made.
    control: OnceLock<ForwarderControl>,
}

/// How long a source may take to say what it holds.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

impl Running {
    pub(crate) fn all(config: Config) -> Result<Vec<Arc<Self>>, ConfigError> {
        let of = |relay: Relay| {
            let source = SourceEnd::open(&relay.source)?;
            Ok(Arc::new(Self {
                config: relay,
                source,
                metrics: RelayMetrics::shared(),
                control: OnceLock::new(),
            }))
        };
        config.relays.into_iter().map(of).collect()
    }

    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    /// What steers it, once there is something to steer.
    pub(crate) fn control(&self) -> Option<&ForwarderControl> {
        self.control.get()
    }

    /// Forwards until `stop`. What ends the forwarder is logged, and it is run again after a wait.
    pub(crate) async fn run(&self, stop: &CancellationToken) -> Option<ForwarderReport> {
        let backoff = Backoff::exponential(Duration::from_millis(500)).max(Duration::from_secs(30));
        let mut failures = 0;
        let mut total: Option<ForwarderReport> = None;
        let destination = loop {
            match DestinationEnd::open(&self.config).await {
                Ok(destination) => break destination,
                Err(error) => self.log_and_wait(&chain(&error), backoff.delay(failures), stop).await?,
            }
            failures += 1;
        };
        let dead_letters = match (self.config.dead_letters_to_destination, &destination) {
            (false, _) => None,
            (true, DestinationEnd::Plain(publisher)) => Some(Arc::clone(publisher)),
            (true, DestinationEnd::Fenced(_)) => match publisher(&self.config.destination).await {
                Ok(publisher) => Some(publisher),
                Err(error) => {
                    tracing::error!(relay = self.name(), error = %chain(&error), "dead letters stay in the source");
                    None
                }
            },
        };
        let forwarder =
            AnyForwarder::new(&self.config, &self.source, &destination, dead_letters.clone(), &self.metrics);
        let forwarder = match forwarder {
            Ok(forwarder) => forwarder,
            Err(error) => {
                tracing::error!(relay = self.name(), error = %chain(&error), "the relay cannot work");
                return None;
            }
        };
        let _ = self.control.set(forwarder.control());
        failures = 0;
        while !stop.is_cancelled() {
            match forwarder.clone().run_until(stop.cancelled()).await {
                Ok(report) => {
                    add(&mut total, report);
                    break;
                }
                Err(error) => {
                    // What has worked for a while is not as broken as what has never.
                    failures = if error.report().forwarded > 0 { 0 } else { failures };
                    let wait = backoff.delay(failures);
                    failures += 1;
                    add(&mut total, error.report().clone());
                    if self.log_and_wait(&chain(&error), wait, stop).await.is_none() {
                        break;
                    }
                }
            }
        }
        destination.close().await;
        if let (Some(dead_letters), DestinationEnd::Fenced(_)) = (dead_letters, &destination)
            && let Err(error) = dead_letters.close().await
        {
            tracing::warn!(error = %chain(&error), "the publisher of dead letters was not closed properly");
        }
        total
    }

    async fn log_and_wait(&self, error: &str, wait: Duration, stop: &CancellationToken) -> Option<()> {
        tracing::error!(relay = self.name(), ?wait, error, "the relay does not run; it is tried again");
        tokio::select! {
            biased;
            () = stop.cancelled() => None,
            () = sleep(wait) => Some(()),
        }
    }

    /// Asks the source what it holds, for the metrics.
    pub(crate) async fn ask_source(&self) {
        let asked = async {
            match SourceView::ask(&self.source.pool, &self.config.source).await {
                Ok(view) => Ok(view),
                // Of a database that is away a pool says only that it has waited in vain.
                Err(error) => Err(self.source.pool.ping().await.err().map_or(error, |error| chain(&error))),
            }
        };
        let view = timeout(ASK_TIMEOUT, asked).await;
        match view {
            Ok(Ok(view)) => {
                self.metrics.asked(Some(view.figures(&self.config.source)), view.owners());
            }
            Ok(Err(error)) => {
                tracing::warn!(relay = self.name(), error, "the source does not say what it holds");
                self.metrics.asked(None, Owners::new());
            }
            Err(_) => {
                tracing::warn!(relay = self.name(), "the source does not say in time what it holds");
                self.metrics.asked(None, Owners::new());
            }
        }
    }

    /// Why it is not ready, if it is not.
    pub(crate) fn not_ready(&self) -> Option<String> {
        match self.control() {
            None => Some("its destination could not be set up yet".to_owned()),
            Some(control) if control.phase() != Phase::Running => Some(ProcessView::of(control, &[]).health),
            Some(_) => None,
        }
    }

    pub(crate) fn view(&self) -> ProcessView {
        match self.control() {
            Some(control) => ProcessView::of(control, &self.source.held_back()),
            None => ProcessView::starting(),
        }
    }

    pub(crate) fn shown(&self) -> Shown {
        let held_back =
            self.source.held_back().iter().map(|held| held.waited.as_secs_f64()).fold(0.0, f64::max);
        Shown {
            relay: self.name().to_owned(),
            status: self.control().map(ForwarderControl::status),
            measured: self.metrics.measured(),
            held_back,
        }
    }
}

fn add(total: &mut Option<ForwarderReport>, report: ForwarderReport) {
    match total {
        None => *total = Some(report),
        Some(total) => {
            total.forwarded += report.forwarded;
            total.dead_lettered += report.dead_lettered;
            total.repeated += report.repeated;
            total.returned += report.returned;
            total.cut_short = report.cut_short;
        }
    }
}

/// The relays by name.
pub(crate) fn by_name(relays: &[Arc<Running>]) -> BTreeMap<&str, &Arc<Running>> {
    relays.iter().map(|relay| (relay.name(), relay)).collect()
}
