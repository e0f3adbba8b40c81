//! Joins the worked example of a backend to the conformance suite.

mod spool;

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use watermill_testkit::{Backend, Connection, Lack, unique};

use crate::spool::{SpoolPublisher, SpoolSubscriber};

/// A directory that goes with its test.
struct Spool(PathBuf);

impl Spool {
    fn new() -> Self {
        Self(std::env::temp_dir().join(unique("watermill_spool")))
    }

    fn open(&self, lease: Duration) -> Connection {
        Connection::new(SpoolPublisher::new(&self.0), SpoolSubscriber::new(&self.0, lease))
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[async_trait]
impl Backend for Spool {
    async fn connect(&self) -> Connection {
        self.open(Duration::from_secs(30))
    }

    async fn connect_with_timeout(&self) -> Option<(Connection, Duration)> {
        let lease = Duration::from_secs(2);
        Some((self.open(lease), lease))
    }

    fn lacks(&self) -> &[Lack] {
        &[Lack::Restart]
    }

    fn invalid_topics(&self) -> Vec<String> {
        vec![String::new(), "../elsewhere".to_owned(), ".hidden".to_owned()]
    }

    fn scale(&self) -> usize {
        10
    }
}

watermill_testkit::conformance!(Spool::new());
