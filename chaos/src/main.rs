//! `cargo xtask chaos`: an application, relays and a consumer, with everything around them broken again and again, and a
//! verdict on what was promised, from outside.
//!
//! One run has a database and a broker of its own. Its [`schedule`] says what is broken when; [`breaker`] does it, while
//! [`writers`] commit, and relays ([`relays`]: the daemon, or one of the [`designs`] written by hand) work. What all of
//! them have seen is in [`records`], what the database and the topic hold in the end is read with plain clients, and
//! [`checks`] compares.

mod breaker;
mod checks;
mod database;
mod designs;
mod fault;
mod options;
mod progress;
mod proxy;
mod records;
mod relays;
mod report;
mod run;
mod schedule;
mod servers;
mod topic;
mod writers;

use std::{env, process::ExitCode};

use clap::Parser as _;
use sqlx::{MySql, Postgres};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    options::{DatabaseKind, Options, Run, name},
    report::Report,
    servers::Server,
};

/// What went wrong, for a reader.
type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T = (), E = Error> = std::result::Result<T, E>;

#[tokio::main]
async fn main() -> ExitCode {
    let done = match env::var(designs::BY_HAND) {
        Ok(task) => designs::relay(&task).await.map(|()| true),
        Err(_) => tokio::select! {
            done = run(Options::parse()) => done,
            () = told_to_stop() => Err("it was stopped".into()),
        },
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("{}", abandoned(&*error));
            ExitCode::FAILURE
        }
    }
}

/// What takes the place of a verdict. What belongs to it is indented.
fn abandoned(error: &dyn std::error::Error) -> String {
    format!("ABANDONED: {}", error.to_string().replace('\n', "\n  "))
}

/// Then what was started ends with what is dropped.
async fn told_to_stop() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated => {}
    }
}

/// Performs the runs; whether all promises were kept.
async fn run(options: Options) -> Result<bool> {
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let runs = options.runs(seed);
    let broker = Server::broker("broker").await?;
    let mut kept = true;
    for run in &runs {
        // What one run cannot be given, the next may need nothing of.
        kept &= match Box::pin(perform(run, &broker)).await {
            Ok(report) => {
                println!("{report}");
                report.is_kept()
            }
            Err(error) => {
                println!("{}\n", abandoned(&*error));
                false
            }
        };
    }
    Ok(kept)
}

async fn perform(run: &Run, broker: &Server) -> Result<Report> {
    let own = format!("{}-{}-{}", name(run.database), name(run.design), name(run.delivery));
    match run.database {
        DatabaseKind::Postgres => run::perform::<Postgres>(run, broker, &own).await,
        DatabaseKind::Mysql => run::perform::<MySql>(run, broker, &own).await,
    }
}
