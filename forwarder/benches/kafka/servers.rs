//! [`Servers`]: a PostgreSQL that flushes every commit, and a Kafka.

use sqlx::{PgPool, postgres::PgPoolOptions};
use watermill_core::Subscriber as _;
use watermill_kafka::{CreateTopics, KafkaSubscriber, KafkaSubscriberConfig};
use watermill_testkit::{PrivateServer, Service, unique};

use crate::{Options, debezium};

/// Partitions of a destination.
pub(crate) const PARTITIONS: i32 = 4;

const CONNECTIONS: u32 = 12;

/// Go with this.
pub(crate) struct Servers {
    pub(crate) postgres: PrivateServer,
    pub(crate) kafka: PrivateServer,
}

impl Servers {
    /// Blocks.
    pub(crate) fn start(options: &Options) -> Self {
        let servers = Self {
            postgres: PrivateServer::start_durable(Service::POSTGRES),
            kafka: PrivateServer::start(Service::KAFKA),
        };
        if debezium::is_wanted(options) {
            crate::runtime().block_on(servers.set_wal_level_logical());
            servers.postgres.kill();
            servers.postgres.start_again();
        }
        servers
    }

    pub(crate) async fn pool(&self) -> PgPool {
        let options = PgPoolOptions::new().max_connections(CONNECTIONS);
        options.connect(self.postgres.url()).await.expect("the server answers")
    }

    /// A topic of Kafka, empty.
    pub(crate) async fn destination(&self) -> String {
        let topic = unique("orders");
        self.create(&topic).await;
        topic
    }

    pub(crate) async fn create(&self, topic: &str) {
        let config =
            KafkaSubscriberConfig::new(self.kafka.url()).create_topics(CreateTopics::new(PARTITIONS, 1));
        let subscriber = KafkaSubscriber::new(config).expect("a valid config");
        subscriber.initialize(topic).await.expect("the topic is made");
        subscriber.close().await.expect("a clean end");
    }

    /// What a replication slot needs; it is so after a restart.
    async fn set_wal_level_logical(&self) {
        let pool = self.pool().await;
        sqlx::query("alter system set wal_level = logical")
            .execute(&pool)
            .await
            .expect("we are its superuser");
        pool.close().await;
    }
}
