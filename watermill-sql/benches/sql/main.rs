//! Publishing and reading, beside sqlx doing the same work over the same server in the same run.
//!
//! ```text
//! cargo xtask bench sql [--json]
//! cargo bench -p watermill-sql --all-features --bench sql -- [part of a figure's name] [--json]
//! ```
//!
//! Rounds of ours and of the raw client take turns, and the middle one of each counts: what else the
//! machine does hits both. `WATERMILL_BENCH_ROWS` is the size of the large backlog, by default a million.

mod figure;
mod log;
mod publish;
mod queue;
mod raw;

#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;

use watermill_testkit::Figures;

use crate::{figure::Chosen, raw::Raw};

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime starts");
    let mut chosen = Chosen::new(Figures::from_args());
    runtime.block_on(async {
        #[cfg(feature = "postgres")]
        measure::<postgres::Postgres>(&mut chosen).await;
        #[cfg(feature = "mysql")]
        measure::<mysql::MySql>(&mut chosen).await;
    });
    let figures = chosen.figures;
    figures.print();
    assert!(figures.are_within(), "a figure misses its limit");
}

async fn measure<R: Raw>(chosen: &mut Chosen) {
    let server = R::default();
    publish::measure(&server, chosen).await;
    log::measure(&server, chosen).await;
    queue::measure(&server, chosen).await;
}
