//! A consumer of Kafka is killed at every step of handling a message, again and again: what its handler writes and
//! publishes is there exactly once, on three databases, with an `SqlInbox`. The same for consumers of a log and of a queue in
//! the same database, whose acks are part of the transaction. A handler that writes its effect and then its mark fails the
//! same check.
//!
//! Without the test harness, for the consumer is a process of its own: this program again.

mod child;
mod database;
mod naive;
mod parent;
mod proxy;
mod report;

use child::Source;
use database::Database;

pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How often a consumer of Kafka is killed on each database, unless told otherwise.
const KILLS: &str = "WATERMILL_CRASH_KILLS";
const KILLS_DEFAULT: usize = 68;
/// So many times as often as one of another source, which is about twice at each step by default.
const OTHERS: usize = 5;

fn main() -> Result {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if let Some(plan) = child::Plan::from_env() {
        return runtime.block_on(child::consume(plan));
    }
    let kills = std::env::var(KILLS).ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS_DEFAULT);
    runtime.block_on(async {
        for (source, kills) in
            [(Source::Kafka, kills), (Source::Log, kills / OTHERS), (Source::Queue, kills / OTHERS)]
        {
            let mut report = report::Report::default();
            for database in [Database::Postgres, Database::MySql, Database::Sqlite] {
                report.add(parent::torment(database, source, kills, false).await?);
            }
            println!("{source:?}\n{report}");
            report.assert_exactly_once(3 * kills);
        }
        let naive = parent::torment(Database::Sqlite, Source::Kafka, 12, true).await?;
        println!("effect first, then its mark: {naive}");
        assert!(!naive.is_exactly_once(), "the check finds nothing wrong with a handler that is: {naive}");
        Ok(())
    })
}
