//! From PostgreSQL to Kafka, on servers that flush what they say is stored: how fast a backlog is relayed, beside a loop
//! that was written by hand and, where it is given, Debezium; how soon a consumer has what was committed; how long
//! everything stands still when a relay is killed; and how much memory a backlog takes.
//!
//! ```text
//! cargo bench -p watermill-forwarder --features relay-kafka --bench relay_kafka -- [part] [--quick] [--json]
//! ```
//!
//! It starts servers of its own. `cargo xtask bench relay --with debezium` brings what Debezium needs.

mod by_hand;
mod consumer;
mod counted;
mod debezium;
mod drain;
mod latency;
mod memory;
mod ours;
mod outbox;
mod process;
mod servers;
mod takeover;

use tokio::runtime::{Builder, Runtime};
use watermill_testkit::Figures;

use crate::servers::Servers;

/// What all figures are called first.
pub(crate) const NAME: &str = "relay-kafka";

/// What is asked for on the command line.
pub(crate) struct Options {
    filter: Option<String>,
    quick: bool,
}

impl Options {
    fn from_args() -> Self {
        let args = || std::env::args().skip(1);
        // Cargo says `--bench` to what it runs as one.
        let filter = args().find(|argument| !argument.starts_with("--"));
        Self { filter, quick: args().any(|argument| argument == "--quick") }
    }

    /// Whether any of the figures whose names begin with this is asked for.
    pub(crate) fn wants(&self, part: &str) -> bool {
        let name = format!("{NAME}/{part}");
        self.filter.as_ref().is_none_or(|filter| name.starts_with(filter) || filter.starts_with(&name))
    }

    /// How much is to be done.
    pub(crate) fn size(&self, usual: usize, quick: usize) -> usize {
        if self.quick { quick } else { usual }
    }
}

fn main() {
    if process::serve_if_asked_to() {
        return;
    }
    let options = Options::from_args();
    let mut figures = Figures::from_args();
    let servers = Servers::start(&options);
    runtime().block_on(async {
        drain::measure(&servers, &options, &mut figures).await;
        debezium::measure(&servers, &options, &mut figures).await;
        latency::measure(&servers, &options, &mut figures).await;
        takeover::measure(&servers, &options, &mut figures).await;
        memory::measure(&servers, &options, &mut figures).await;
    });
    figures.print();
    drop(servers);
    assert!(figures.are_within(), "a figure misses its limit");
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}
