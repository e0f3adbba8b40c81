//! [`Outbox`]: a table of envelopes.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use watermill_core::{Message, Publisher as _, Subscriber as _};
use watermill_forwarder::ForwarderPublisher;
use watermill_sql::{SqlPublisher, SqlPublisherConfig, SqlSubscriber, SqlSubscriberConfig};
use watermill_testkit::{unique, workload};

/// What stands for the number of a message in the row that all are copies of.
const NUMBER: &str = "@number@";

/// Messages of 256 bytes with three metadata entries and one of a thousand keys, in envelopes that were written as
/// [`ForwarderPublisher`] writes them.
pub(crate) struct Outbox {
    pub(crate) pool: PgPool,
    pub(crate) topic: String,
    /// Copies a row, by the database itself: who fills the table is not what is measured.
    copy: Arc<str>,
}

impl Outbox {
    /// An empty one, with messages for this topic of the destination.
    pub(crate) async fn new(pool: &PgPool, destination: &str) -> Self {
        let (topic, template) = (unique("outbox"), unique("template"));
        let publisher = SqlPublisher::new(pool.clone(), SqlPublisherConfig::default()).expect("it is valid");
        publisher.initialize(&topic).await.expect("a fresh topic");
        let mut message = Message::with_id(NUMBER, workload::message(0).payload().clone());
        *message.metadata_mut() = workload::message(0).metadata().clone();
        let publisher = ForwarderPublisher::new(publisher).topic(&*template);
        let messages = vec![message.with_key(format!("key-{NUMBER}"))];
        publisher.publish(destination, messages).await.expect("the database takes it");
        let subscriber =
            SqlSubscriber::new(pool.clone(), SqlSubscriberConfig::default()).expect("it is valid");
        subscriber.initialize(&topic).await.expect("its other tables");
        // A thousand keys, which the four partitions share.
        let copy = format!(
            r#"insert into "watermill_{topic}" (uuid, payload, metadata, transaction_id)
               select gen_random_uuid()::text,
                      replace(replace(payload::text, 'key-{NUMBER}', 'key-' || n % 1000), '{NUMBER}', n::text)::json,
                      replace(replace(metadata::text, 'key-{NUMBER}', 'key-' || n % 1000), '{NUMBER}', n::text)::json,
                      pg_current_xact_id()
               from "watermill_{template}", generate_series($1, $1 + $2 - 1) n"#
        );
        Self { pool: pool.clone(), topic, copy: copy.into() }
    }

    /// Writes so many messages, numbered from `first` on.
    pub(crate) async fn insert(&self, connection: &mut PgConnection, first: usize, count: usize) {
        let number = |number: usize| i64::try_from(number).expect("a small number");
        let inserted = sqlx::query(AssertSqlSafe(self.copy.clone())).bind(number(first)).bind(number(count));
        inserted.execute(connection).await.expect("a topic of ours");
    }

    /// Writes so many messages, in transactions of 1,000.
    pub(crate) async fn fill(&self, count: usize) {
        const TRANSACTION: usize = 1_000;
        let mut connection = self.pool.acquire().await.expect("a connection");
        for first in (0..count).step_by(TRANSACTION) {
            self.insert(&mut connection, first, TRANSACTION.min(count - first)).await;
        }
        // What would come in the background, in the middle of a round.
        let text = format!(r#"vacuum analyze "watermill_{}""#, self.topic);
        sqlx::query(AssertSqlSafe(text)).execute(&mut *connection).await.expect("a topic of ours");
        sqlx::query("checkpoint").execute(&mut *connection).await.expect("we are its superuser");
    }
}
