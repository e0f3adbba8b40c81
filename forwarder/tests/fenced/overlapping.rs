//! A transaction is sent while the one before it is committed.

use std::time::Duration;

use tokio::time::sleep;

use crate::destination::{Destination, relay, source};

/// A batch of ten makes transactions of up to 160.
const BATCH: usize = 10;
const BACKLOG: usize = 800;

const ENOUGH: Duration = Duration::from_secs(60);

fn all() -> Vec<String> {
    (0..BACKLOG).map(|id| format!("{id:04}")).collect()
}

#[tokio::test(start_paused = true)]
async fn with_a_backlog_the_next_transaction_is_sent_while_one_is_committed() {
    let (source, destination) = (source(&["a"], BACKLOG).await, Destination::default());
    let report = relay(&source, &destination, BATCH).run_until(sleep(ENOUGH)).await.expect("a graceful stop");
    assert_eq!((report.forwarded, report.repeated), (BACKLOG as u64, 0));
    assert_eq!(destination.published("a"), all());
    assert!(destination.state().sent_meanwhile > 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_behind_a_commit_that_fails_is_sent_again_behind_it() {
    for commits in 1..4 {
        let (source, destination) = (source(&["a"], BACKLOG).await, Destination::default());
        destination.state().commit_fails_after = Some(commits);
        let report =
            relay(&source, &destination, BATCH).run_until(sleep(ENOUGH)).await.expect("a graceful stop");
        assert_eq!((report.forwarded, report.repeated), (BACKLOG as u64, 0), "{commits}");
        assert_eq!(destination.published("a"), all(), "{commits}");
        assert_eq!(destination.state().terms(), 2, "{commits}: another term was begun");
    }
}
