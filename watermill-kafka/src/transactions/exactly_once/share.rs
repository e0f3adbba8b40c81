//! [`Share`]: what a subscriber knows of the publisher that commits its positions.

use std::{sync::Arc, time::Duration};

use watermill_core::backend::Failure;

use super::{driver, pair::Pair};
use crate::{
    client::{Client, Owner},
    settle::Together,
};

/// Ends the transactions when nobody needs them any more: the publisher has a share, and so has each client of
/// the subscriber.
pub(super) struct Share(pub(super) Arc<Pair>);

impl Together for Pair {
    fn settled(&self, soon: bool) {
        self.enlisted_changed();
        if soon {
            self.commit_soon();
        }
    }

    fn commit(&self, timeout: Duration) -> Result<(), Failure> {
        self.end(timeout)
    }
}

impl Together for Share {
    fn settled(&self, soon: bool) {
        self.0.settled(soon);
    }

    fn commit(&self, timeout: Duration) -> Result<(), Failure> {
        self.0.end(timeout)
    }
}

impl Owner for Share {
    fn transactions(&self) -> Arc<dyn Together> {
        self.0.clone()
    }

    fn join(&self, client: &Arc<Client>) {
        if self.0.join(client) {
            tokio::spawn(driver::run(self.0.clone()));
        }
    }

    fn over(&self) -> Option<Failure> {
        self.0.over()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.close();
    }
}
