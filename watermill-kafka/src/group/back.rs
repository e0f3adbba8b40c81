//! Logs that go back: a topic that was deleted and made again, or a log whose end brokers have lost.

use watermill_core::{
    backend::{Failure, Trouble},
    delivery::Origin,
    error::SettleError,
};

use super::Group;
use crate::{assigned::Back, ledger::Ledger, settle::Shared};

impl Group {
    /// The log of a partition has gone back: its topic was deleted and made again, or brokers have lost the end
    /// of it. What comes now is read as another log; of what was in hand no word counts any more.
    #[cold]
    pub(crate) fn begin_anew(&self, shared: &Shared, origin: &Origin, partition: i32) {
        let mut begun = None;
        origin.revoke(|| {
            begun = shared.begin_anew(partition, self.next_scope(partition));
            begun.as_ref().map(|back| back.ledger.tokens(back.scope)).unwrap_or_default()
        });
        // Revoked in between.
        let Some(Back { ledger, to, .. }) = begun else { return };
        went_back(shared, partition, &ledger, to);
        ledger.lose(SettleError::lost);
    }

    /// The same where the client has noticed: what was known of the partition is over, and its ledger is the one that
    /// is returned.
    pub(crate) fn forget(&self, topic: &str, partition: i32, next: i64) -> Ledger {
        self.forget_queue(topic, partition);
        let mut fresh = Ledger::default();
        let Some(subscribed) = self.subscribed_to(topic) else { return fresh };
        let Some(ledger) = subscribed.revoke(|shared| shared.revoke(partition)) else { return fresh };
        if ledger.expects().is_some_and(|expected| next < expected) {
            went_back(&subscribed.shared, partition, &ledger, next);
            fresh = Ledger::beginning(next);
        }
        ledger.lose(SettleError::lost);
        fresh
    }

    /// A queue whose records go the client's way all the same: the topic was made anew.
    fn forget_queue(&self, topic: &str, partition: i32) {
        let forgotten = self.lock().queues.remove(&(topic.to_owned(), partition));
        drop(forgotten);
    }
}

fn went_back(shared: &Shared, partition: i32, ledger: &Ledger, to: i64) {
    let (topic, from) = (&*shared.topic, ledger.expects().unwrap_or_default());
    tracing::error!(topic, partition, from, to, "the log of a partition has gone back");
    let detail = format!(
        "partition {partition} has gone back from offset {from} to {to}: its topic was made anew, or brokers have lost \
         the end of it; reading goes on there, and what was in hand is lost"
    );
    shared.report(Failure::because(Trouble::Unavailable, detail));
}
