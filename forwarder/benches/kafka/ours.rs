//! The relays of this crate.

use std::{fmt, str::FromStr, sync::Arc};

use sqlx::PgPool;
use watermill_core::{Publisher as _, Subscriber};
use watermill_forwarder::{DestinationFrom, FencedForwarder, Forwarder, ForwarderConfig, ForwarderReport};
use watermill_kafka::{KafkaFencedPublisher, KafkaPublisher, KafkaPublisherConfig};
use watermill_sql::{SqlSource, SqlSubscriber, SqlSubscriberConfig};

use crate::counted::Tally;

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    AtLeastOnce,
    ExactlyOnce,
}

impl Delivery {
    pub(crate) const BOTH: [Self; 2] = [Self::AtLeastOnce, Self::ExactlyOnce];
}

/// A relay, from where to where.
#[derive(Clone)]
pub(crate) struct Relay {
    pub(crate) delivery: Delivery,
    pub(crate) pool: PgPool,
    pub(crate) brokers: String,
    pub(crate) topic: String,
    /// Of the reader, and the name of the relay.
    pub(crate) group: String,
    pub(crate) batch: usize,
    /// The table, where it is none of ours, and where its rows go.
    pub(crate) source: Option<(SqlSource, DestinationFrom)>,
}

impl Relay {
    /// Runs it until `shutdown`, and closes everything.
    pub(crate) async fn run(
        self,
        tally: &Tally,
        shutdown: impl Future<Output = ()> + Send,
    ) -> ForwarderReport {
        let reading = SqlSubscriberConfig::default()
            .group(&self.group)
            .batch_size(self.batch)
            .max_ahead(2 * self.batch);
        let config = ForwarderConfig::default().topic(self.topic).batch_size(self.batch);
        let (reading, config) = match self.source {
            Some((source, destination)) => (reading.source(source), config.destination_from(destination)),
            None => (reading, config),
        };
        let outbox: Arc<dyn Subscriber> =
            Arc::new(SqlSubscriber::new(self.pool, reading).expect("it is valid"));
        let kafka = KafkaPublisherConfig::new(self.brokers);
        let report = match self.delivery {
            Delivery::AtLeastOnce => {
                let kafka = KafkaPublisher::new(kafka).expect("a valid config");
                let relay = Forwarder::builder(outbox.clone(), tally.of(kafka.clone())).config(config);
                let report = relay.build().expect("a good configuration").run_until(shutdown).await;
                kafka.close().await.expect("a clean end");
                report
            }
            Delivery::ExactlyOnce => {
                let kafka = KafkaFencedPublisher::new(kafka).expect("a valid config");
                let relay =
                    FencedForwarder::builder(outbox.clone(), tally.of(kafka), self.group).config(config);
                relay.build().expect("a good configuration").run_until(shutdown).await
            }
        };
        outbox.close().await.expect("a clean end");
        report.expect("a graceful stop")
    }
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AtLeastOnce => "at-least-once",
            Self::ExactlyOnce => "exactly-once",
        })
    }
}

impl FromStr for Delivery {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::BOTH.into_iter().find(|delivery| delivery.to_string() == text);
        named.ok_or_else(|| format!("no delivery is called {text:?}"))
    }
}
