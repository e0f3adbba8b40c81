//! Why the forwarder exists: a lottery that draws winners, stores them, and announces them.
//!
//! Each draw has two steps, storing a row and publishing an event, and the process may crash between
//! them. Three ways to write that are compared, chosen at random for each draw:
//!
//! 1. publish the event, then store the row;
//! 2. store the row, then publish the event;
//! 3. do both in one transaction of the database, and let a [relay] publish what was committed.
//!
//! A [prize service](prize) hears of each draw, looks the winner up and sends the prize. At the end a
//! [table](report) says what became of the draws: winners that were never announced, and events
//! without a winner. The third way has none of either, though its relay is killed again and again.
//!
//! ```sh
//! cargo run --bin lottery
//! cargo run --bin lottery -- --seed 7 --draws 1000 --failure-rate 0.5
//! cargo run --bin lottery --features postgres -- --database postgres://postgres@localhost/lottery
//! ```

mod broker;
mod database;
mod draw;
mod draws;
mod options;
mod prize;
mod progress;
mod relay;
mod report;
#[cfg(feature = "http")]
mod webhook;

use std::{pin::pin, process::ExitCode};

use clap::Parser;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use watermill_core::error::{BoxError, chain};

use crate::{
    broker::Broker,
    draws::{Drawn, Draws},
    options::Options,
    progress::Progress,
    relay::Relay,
    report::Report,
};

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    // Faults are the point of this program: what the parts say about them is only shown when asked for.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();

    match run(&options).await {
        Ok(report) => {
            print!("{report}");
            if report.is_consistent() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("lottery failed to {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

/// Draws until all draws are done or the user has seen enough, and tells what became of them.
async fn run(options: &Options) -> Result<Report, BoxError> {
    let database = database::open(&options.database).await?;
    let broker = Broker::connect(&options.broker, options.draws).await?;
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));

    // The prize service, as a part of its own: it knows the broker and the database, nothing else.
    let closing = CancellationToken::new();
    let prizes = prize::service(&broker, database.clone()).await?;
    let prizes = tokio::spawn(prizes.run_until(closing.clone().cancelled_owned()));
    let mut relay = Relay::start(&broker, database.clone()).await?;

    let mut drawn = Drawn::default();
    let progress = Progress::new(options.draws);
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    for draw in Draws::new(seed, options, database.first_lottery().await?) {
        tokio::select! {
            biased;
            _ = &mut interrupted => break,
            () = sleep(options.pace) => {}
        }
        if draw.relay_is_killed {
            relay.kill_and_restart().await?;
        }
        let outcome = draw.conclude(&broker, &*database).await?;
        drawn.push(draw, outcome);
        progress.drew(&drawn, &relay);
    }

    // Everything that was announced is heard before anybody goes home.
    progress.settling();
    let settled = drawn.settle(&*database).await?;
    let kills = relay.kills();
    relay.stop().await?;
    closing.cancel();
    prizes.await??;
    progress.done();
    Report::new(options, seed, kills, settled, &drawn, &*database).await
}
