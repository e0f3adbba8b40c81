//! How fast messages are published and read, beside what one would write by hand with sqlx, in the same
//! run.
//!
//! ```text
//! cargo xtask bench [sql|publish|subscribe|step|queue|waking|start|takeover] [--quick] [--json]
//! cargo bench -p watermill-sql --all-features --bench sql -- [part of a figure's name] [--quick] [--json]
//! ```
//!
//! Rates are those of the middle one of several rounds, taken in turn; the rounds are shown on the standard
//! error, with the servers' settings, which decide how fast a commit is: the slower, the nearer ratios are to one.

mod by_key;
mod count;
mod database;
mod mysql;
mod postgres;
mod publish;
mod queue;
mod raw;
mod rounds;
mod sqlite;
mod start;
mod statements;
mod step;
mod subscribe;
mod takeover;
mod waking;

use sqlx::{MySql, Postgres, Sqlite};
use tokio::runtime::Builder;
use watermill_testkit::Figures;

use database::Bench;

fn main() {
    if waking::serve_if_asked_to() {
        return;
    }
    // As a service has it: several threads, and none that is special.
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    if let Some((name, messages)) = count::asked_for() {
        return runtime
            .block_on(async { tokio::spawn(async move { count::run(&name, messages).await }).await })
            .expect("no panic");
    }
    runtime.block_on(takeover::read_until_killed());
    let options = Options::from_args();
    let mut figures = Figures::from_args();
    runtime.block_on(async {
        say_settings::<Postgres>(&options).await;
        say_settings::<MySql>(&options).await;
        say_settings::<Sqlite>(&options).await;
        publish::measure::<Postgres>(&options, &mut figures).await;
        publish::measure::<MySql>(&options, &mut figures).await;
        publish::measure::<Sqlite>(&options, &mut figures).await;
        subscribe::measure::<Postgres>(&options, &mut figures).await;
        subscribe::measure::<MySql>(&options, &mut figures).await;
        subscribe::measure::<Sqlite>(&options, &mut figures).await;
        step::measure::<Postgres>(&options, &mut figures).await;
        step::measure::<MySql>(&options, &mut figures).await;
        step::measure::<Sqlite>(&options, &mut figures).await;
        queue::measure(&options, &mut figures).await;
        by_key::measure::<Postgres>(&options, &mut figures).await;
        by_key::measure::<MySql>(&options, &mut figures).await;
        by_key::measure::<Sqlite>(&options, &mut figures).await;
        waking::measure(&options, &mut figures).await;
        start::measure(&options, &mut figures).await;
        takeover::measure::<Postgres>(&options, &mut figures).await;
        takeover::measure::<MySql>(&options, &mut figures).await;
        // Last, because to be counted costs time.
        statements::measure::<Postgres>(&options, &mut figures).await;
        statements::measure::<MySql>(&options, &mut figures).await;
        statements::measure::<Sqlite>(&options, &mut figures).await;
    });
    figures.print();
    assert!(figures.are_within(), "a figure misses its limit");
}

/// Says on the standard error which settings stand behind the figures of a database.
async fn say_settings<D: Bench>(options: &Options) {
    let is_named = |part: &str| options.wants(&format!("{part}/{}", D::LABEL));
    if ["publish", "subscribe", "queue", "start", "takeover"].into_iter().any(is_named) {
        let database = D::database();
        let pool = D::pool(&database, 1).await;
        eprintln!("{:<44} {}", D::LABEL, D::settings(&pool).await);
        pool.close().await;
    }
}

/// The arguments: `[part of a figure's name] [--quick] [--json]`.
#[derive(Debug)]
struct Options {
    quick: bool,
    filter: Option<String>,
}

impl Options {
    fn from_args() -> Self {
        let args: Vec<String> = std::env::args().skip(1).collect();
        Self {
            quick: args.iter().any(|arg| arg == "--quick"),
            filter: args.into_iter().find(|arg| !arg.starts_with('-')),
        }
    }

    /// A size: of a full run, or of a quick one, whose figures say less.
    fn size(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }

    /// Whether the figures are wanted whose names begin so.
    fn wants(&self, name: &str) -> bool {
        self.filter.as_deref().is_none_or(|filter| name.contains(filter) || filter.starts_with(name))
    }
}
