//! [`Relay`]: publishes what was committed, however often it is killed.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use watermill_core::{Publisher, Subscriber, error::BoxError};
use watermill_forwarder::{DEFAULT_TOPIC, Forwarder, ForwarderError, ForwarderReport};
use watermill_sql::SqlSubscriberConfig;

use crate::{broker::Broker, database::Database};

/// How long a successor waits for a relay that vanished without a word.
const LEASE: Duration = Duration::from_millis(500);

/// A forwarder from the database to the broker, on a task of its own.
pub(crate) struct Relay {
    parts: Parts,
    running: Running,
    kills: u32,
}

struct Parts {
    publisher: Arc<dyn Publisher>,
    database: Arc<dyn Database>,
}

struct Running {
    task: JoinHandle<Result<ForwarderReport, ForwarderError>>,
    stop: CancellationToken,
}

impl Relay {
    /// Creates the outbox and starts to read it.
    pub(crate) async fn start(broker: &Broker, database: Arc<dyn Database>) -> Result<Self, BoxError> {
        let parts = Parts { publisher: broker.publisher.clone(), database };
        parts.subscriber()?.initialize(DEFAULT_TOPIC).await?;
        let running = parts.start()?;
        Ok(Self { parts, running, kills: 0 })
    }

    /// Ends the relay in the middle of whatever it is doing, and starts another one.
    pub(crate) async fn kill_and_restart(&mut self) -> Result<(), BoxError> {
        self.running.task.abort();
        if let Ok(ended) = (&mut self.running.task).await {
            // It had ended before it was killed, which it must not.
            ended?;
        }
        self.kills += 1;
        self.running = self.parts.start()?;
        Ok(())
    }

    /// How often it was killed.
    pub(crate) fn kills(&self) -> u32 {
        self.kills
    }

    /// Lets it finish what it has in hand.
    pub(crate) async fn stop(self) -> Result<(), BoxError> {
        self.running.stop.cancel();
        self.running.task.await??;
        Ok(())
    }
}

impl Parts {
    fn start(&self) -> Result<Running, BoxError> {
        let forwarder = Forwarder::builder(self.subscriber()?, self.publisher.clone()).build()?;
        let stop = CancellationToken::new();
        let task = tokio::spawn(forwarder.run_until(stop.clone().cancelled_owned()));
        Ok(Running { task, stop })
    }

    fn subscriber(&self) -> Result<Arc<dyn Subscriber>, BoxError> {
        self.database.subscriber(SqlSubscriberConfig::default().group("relay").lease(LEASE))
    }
}
